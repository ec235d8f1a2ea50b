import pg from 'pg';
import { expect } from 'vitest';
import type { PostgresVersion } from '../../support/postgres.ts';
import { Run } from '../../support/run.ts';
import { COLUMNS, EXCLUDED, MADE_COLUMNS, MADE_TYPES, type TypeColumn } from './values.ts';

/** How rows come to green: each class has its own ids. */
const CLASSES = { copied: 1_000, inserted: 2_000, updated: 3_000, touched: 4_000 } as const;

/** The same columns thrice: rows that pass through untouched, rows that the mapping takes apart, and rows without a key. */
const VARIANTS = ['plain', 'mapped', 'keyless'] as const;

interface WideTable {
  readonly name: string;
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly values: readonly string[];
    readonly send: boolean;
  }[];
}

/**
 * A row of every type is copied, inserted through the stream, updated through the stream from NULLs, and updated in another column
 * while its values stay: green has the same bytes each time, through a plain copy, through the mapping, and in a table without a key.
 */
export async function everyTypeArrives(from: PostgresVersion, to: PostgresVersion): Promise<void> {
  const oldest = Math.min(from, to);
  const tables = wideTables(oldest);
  const names = tables.flatMap(({ name }) => VARIANTS.map((variant) => `${name}_${variant}`));
  await using run = await Run.create({
    blueOn: from,
    greenOn: to,
    blue: `${MADE_TYPES} ${tables.map((table) => ddl(table, { identity: true, extra: false })).join('\n')}`,
    green: `${MADE_TYPES} ${tables.map((table) => ddl(table, { identity: false, extra: true })).join('\n')}`,
    tables: names
      .map((name) =>
        name.endsWith('_mapped')
          ? `- from: public.${name}\n  to: [{ table: public.${name}, columns: { "*": copy, extra: { value: more } } }]`
          : `- from: public.${name}`,
      )
      .join('\n'),
  });
  await run.blue.query(`SET lc_monetary = 'C'; SET xmloption = content`);
  if (from === 16 || from === 18) await nothingForgotten(run);
  for (const table of tables) {
    await fill(run, table, CLASSES.copied);
    await fill(run, table, CLASSES.touched);
  }
  await run.start();
  for (const table of tables) {
    await fill(run, table, CLASSES.inserted);
    await update(run, table);
  }
  await run.settled(60_000);
  expect((await run.engine.status()).apply.rejects).toBe(0);
  const different: string[] = [];
  for (const table of tables) {
    for (const variant of VARIANTS)
      different.push(...(await differences(run, `${table.name}_${variant}`, table)));
  }
  expect(different).toEqual([]);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
}

/** A table of nothing but these is copied in the binary form: one column of another type, and all of it goes as text. */
const COPIED_BINARY = new Set([
  ...['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bytea'],
  ...['uuid', 'date', 'timestamp', 'timestamptz', 'json', 'jsonb'],
]);

function wideTables(oldest: number): WideTable[] {
  const usable = (columns: readonly TypeColumn[]): TypeColumn[] =>
    columns
      .filter((column) => (column.from ?? 0) <= oldest)
      .map((column) => ({
        ...column,
        values: [
          ...column.values,
          ...Object.entries(column.since ?? {}).flatMap(([version, values]) =>
            Number(version) <= oldest ? values : [],
          ),
        ],
      }));
  const plain = usable(COLUMNS);
  const made = usable(MADE_COLUMNS);
  const isBuiltIn = (column: TypeColumn): boolean => column.covers.startsWith('pg_catalog.');
  const wide = (name: string, columns: readonly TypeColumn[], array: boolean): WideTable => ({
    name,
    columns: columns.map((column, index) => ({
      name: `c${index}`,
      type: array ? `${column.type}[]` : column.type,
      values: array ? arraysOf(column) : column.values,
      // The binary form of other types names them by a number that each database gives anew; that of xml shows a declaration
      // which the server leaves out when it prints the value, and so out of log and copy.
      send: isBuiltIn(column) && column.type !== 'xml',
    })),
  });
  return [
    wide('scalar', plain, false),
    wide(
      'binary',
      plain.filter(({ covers }) => COPIED_BINARY.has(covers.replace('pg_catalog.', ''))),
      false,
    ),
    wide('array', plain, true),
    wide('made', made, false),
    wide('made_array', made, true),
  ];
}

function arraysOf({ values, delimiter = ',' }: TypeColumn): string[] {
  const quoted = values.map((value) =>
    value.length > 20_000 ? 'NULL' : `"${value.replaceAll(/["\\]/g, '\\$&')}"`,
  );
  const [first = 'NULL', second = 'NULL', third = 'NULL'] = quoted;
  const list = (...elements: string[]): string => `{${elements.join(delimiter)}}`;
  return [
    '{}',
    list('NULL'),
    list(...quoted, 'NULL'),
    list(list(first, 'NULL'), list(second, third)),
    `[-2:-1]=${list(first, second)}`,
    `[0:0][7:8]=${list(list(third, first))}`,
  ];
}

const rowsOf = ({ columns }: WideTable): number => Math.max(...columns.map(({ values }) => values.length));

function ddl(table: WideTable, { identity, extra }: { identity: boolean; extra: boolean }): string {
  const columns = table.columns.map(({ name, type }) => `${name} ${type}`).join(', ');
  const one = (variant: string, id: string, more = ''): string =>
    `CREATE TABLE public.${table.name}_${variant} (id ${id}, tag int, ${columns}${more});`;
  const full = identity ? `ALTER TABLE public.${table.name}_keyless REPLICA IDENTITY FULL;` : '';
  return `${one('plain', 'int PRIMARY KEY')} ${one('mapped', 'int PRIMARY KEY', extra ? ', extra text' : '')} ${one('keyless', 'int')} ${full}`;
}

/** The n-th row has the n-th value of every type, from the start again where a type has fewer. */
const valueSql = ({ type, values }: WideTable['columns'][number], row: number): string =>
  `${pg.escapeLiteral(values[row % values.length] as string)}::${type}`;

async function fill(run: Run, table: WideTable, base: number): Promise<void> {
  const rows = Array.from({ length: rowsOf(table) }, (_, row) => {
    const cells = table.columns.map((column) => valueSql(column, row));
    return `(${base + row}, 0, ${cells.join(', ')})`;
  });
  await run.blue.query(`INSERT INTO public.${table.name}_plain VALUES ${rows.join(',\n')}`);
  await spread(run, table, base);
  // One row of nothing but NULLs, and those that an update will fill.
  await run.blue.query(`INSERT INTO public.${table.name}_plain (id) VALUES (${base + 900})`);
  if (base !== CLASSES.copied) return;
  await run.blue.query(
    `INSERT INTO public.${table.name}_plain (id) SELECT ${CLASSES.updated} + g FROM generate_series(0, ${rowsOf(table) - 1}) g`,
  );
  await spread(run, table, CLASSES.updated);
}

/** Takes the rows of a class over into the other two tables. */
async function spread(run: Run, table: WideTable, base: number): Promise<void> {
  for (const variant of ['mapped', 'keyless']) {
    await run.blue.query(
      `INSERT INTO public.${table.name}_${variant} SELECT * FROM public.${table.name}_plain WHERE id BETWEEN ${base} AND ${base + 899}`,
    );
  }
}

async function update(run: Run, table: WideTable): Promise<void> {
  for (const variant of VARIANTS) {
    const name = `public.${table.name}_${variant}`;
    const set = table.columns.map((column) => `${column.name} = s.${column.name}`).join(', ');
    await run.blue.query(
      `UPDATE ${name} t SET ${set} FROM public.${table.name}_plain s
       WHERE t.id BETWEEN ${CLASSES.updated} AND ${CLASSES.updated + 899} AND s.id = t.id - ${CLASSES.updated - CLASSES.copied}`,
    );
    await run.blue.query(
      `UPDATE ${name} SET tag = 1 WHERE id BETWEEN ${CLASSES.touched} AND ${CLASSES.touched + 899}`,
    );
  }
}

/** Which row and column differ, by text and by binary form. */
async function differences(run: Run, name: string, table: WideTable): Promise<string[]> {
  const { rows } = await run.blue.client.query<{ column: string; send: string }>(
    `SELECT a.attname AS column, p.proname AS send FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_proc p ON p.oid = t.typsend
     JOIN pg_type x ON x.oid = p.proargtypes[0]
     WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND (x.oid = t.oid OR x.typtype = 'p')`,
    [`public.${name}`],
  );
  const send = new Map(rows.map((row) => [row.column, row.send]));
  const shown = table.columns.flatMap((column) => {
    // As it is printed: a cast to text prints some types otherwise (char(n), boolean, xml).
    const printed = `CASE WHEN ${column.name} IS DISTINCT FROM NULL THEN format('%s', ${column.name}) END`;
    const text = { column: `${column.name} ${column.type}`, sql: printed };
    const binary = {
      column: `${text.column} (binary)`,
      sql: `encode(${send.get(column.name)}(${column.name}), 'hex')`,
    };
    return column.send && send.has(column.name) ? [text, binary] : [text];
  });
  const columns = [{ column: 'tag', sql: 'tag::text' }, ...shown];
  const sql = (some: typeof columns): string =>
    `SELECT id::text, ${some.map((one) => one.sql).join(', ')} FROM public.${name} ORDER BY id`;
  const found: string[] = [];
  for (let at = 0; at < columns.length; at += 200) {
    const some = columns.slice(at, at + 200);
    const [left, right] = [await run.rows('blue', sql(some)), await run.rows('green', sql(some))];
    expect(
      right.map((row) => row[0]),
      `rows of ${name}`,
    ).toEqual(left.map((row) => row[0]));
    expect(left.length).toBe(4 * rowsOf(table) + (name.endsWith('_plain') ? 3 : 0));
    left.forEach((row, index) =>
      row.forEach((cell, column) => {
        if (cell !== right[index]?.[column]) found.push(`${name} ${row[0]} ${some[column - 1]?.column}`);
      }),
    );
    // What the rows should hold was read by the server at three different times: it must be the same.
    const byId = new Map(right.map((row) => [Number(row[0]), row.slice(at === 0 ? 2 : 1)]));
    for (let row = 0; row < rowsOf(table); row++) {
      const copied = byId.get(CLASSES.copied + row);
      for (const base of Object.values(CLASSES))
        expect(byId.get(base + row), `${name} ${base + row}`).toEqual(copied);
    }
  }
  return found;
}

/** Every type that the server has is in the tables, or excluded by name. */
async function nothingForgotten(run: Run): Promise<void> {
  const known = new Set([...COLUMNS.map(({ covers }) => covers), ...Object.keys(EXCLUDED)]);
  const { rows } = await run.blue.client.query<{ name: string; element: string | null }>(
    `SELECT n.nspname || '.' || t.typname AS name,
            CASE WHEN e.typarray = t.oid THEN (SELECT nspname FROM pg_namespace WHERE oid = e.typnamespace) || '.' || e.typname END AS element
     FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typelem <> 0
     WHERE t.oid < 16384 AND t.typtype IN ('b', 'r', 'm', 'd', 'e')
       -- Rows of catalogs and pseudo types are no types of columns; arrays of them neither.
       AND NOT (coalesce(e.typtype, 'b') IN ('c', 'p') AND e.typarray = t.oid)`,
  );
  expect(rows.length).toBeGreaterThan(150);
  expect(rows.filter(({ name, element }) => !known.has(element ?? name)).map(({ name }) => name)).toEqual([]);
}
