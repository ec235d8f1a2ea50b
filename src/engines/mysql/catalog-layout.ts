import { createHash } from 'node:crypto';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Column, type Relation, type TableName } from '../../core/table.ts';
import type { Link } from './connect.ts';
import { ERRNO, errnoOf } from './errors.ts';
import { isExact, kindOf, membersOf } from './kinds.ts';
import { literal, qualified } from './sql.ts';

/** A column as this engine needs it, beside what the rest of the program may know. */
export interface LayoutColumn {
  readonly name: string;
  /** `int`, `varchar`, `enum`, … */
  readonly dataType: string;
  /** With length, members and `unsigned`. */
  readonly columnType: string;
  readonly unsigned: boolean;
  readonly charset: string | null;
  readonly collation: string | null;
  readonly nullable: boolean;
  readonly generated: boolean;
  readonly invisible: boolean;
  readonly autoIncrement: boolean;
  readonly hasDefault: boolean;
  /** Digits of a second that are kept; bits of a BIT; bytes of a BINARY. */
  readonly size: number;
  /** Of an enum or set. */
  readonly members: readonly string[];
}

export interface LayoutIndex {
  readonly name: string;
  readonly unique: boolean;
  /** Names; null for an expression. */
  readonly columns: readonly (string | null)[];
  /** Covers a part of a column only. */
  readonly prefix: boolean;
}

export interface Layout {
  readonly table: TableName;
  readonly engine: string;
  readonly columns: readonly LayoutColumn[];
  readonly indexes: readonly LayoutIndex[];
}

/** @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_UNSUPPORTED for a view */
export async function readLayout(link: Link, table: TableName): Promise<Layout> {
  await holdDefinition(link, table);
  const where = `TABLE_SCHEMA = ${literal(table.schema)} AND TABLE_NAME = ${literal(table.name)}`;
  const found = (
    await link.rows(`SELECT TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE ${where}`)
  )[0];
  if (found === undefined)
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The table ${showTable(table)} does not exist.`);
  if (found[0] !== 'BASE TABLE')
    throw new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      `${showTable(table)} is a ${found[0]?.toLowerCase()}, not a table.`,
    );
  const columns = await link.rows(
    `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, EXTRA,
       COLUMN_DEFAULT IS NOT NULL, coalesce(DATETIME_PRECISION, NUMERIC_PRECISION, CHARACTER_OCTET_LENGTH, 0)
     FROM information_schema.COLUMNS WHERE ${where} ORDER BY ORDINAL_POSITION`,
  );
  const indexes = await link.rows(
    `SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART IS NOT NULL FROM information_schema.STATISTICS WHERE ${where}
     ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
  );
  const byName = new Map<string, { unique: boolean; prefix: boolean; columns: (string | null)[] }>();
  for (const [name, nonUnique, column, prefix] of indexes) {
    let index = byName.get(name as string);
    if (index === undefined)
      byName.set(name as string, (index = { unique: nonUnique === '0', prefix: false, columns: [] }));
    index.columns.push(column ?? null);
    index.prefix ||= prefix === '1';
  }
  return {
    table,
    engine: found[1] ?? '',
    columns: columns.map(columnOf),
    indexes: [...byName].map(([name, index]) => ({ name, ...index })),
  };
}

const UNREADABLE = new Set<number>([ERRNO.NO_SUCH_TABLE, ERRNO.BAD_DATABASE, ERRNO.BAD_VIEW]);

/**
 * In a transaction: until its end nobody changes the table. MariaDB leaves a table out of what a transaction that holds any lock reads of
 * information_schema while DDL is at it, with a warning only (1684; seen on 10.11 at the end of builds): whole, or its columns or indexes alone.
 */
async function holdDefinition(link: Link, table: TableName): Promise<void> {
  try {
    await link.rows(`SELECT 1 FROM ${qualified(table)} LIMIT 0`);
  } catch (error) {
    // What is read afterwards says so.
    if (!UNREADABLE.has(errnoOf(error) ?? 0)) throw error;
  }
}

function columnOf(row: readonly (string | null)[]): LayoutColumn {
  const [name, dataType, columnType, charset, collation, nullable, extra, hasDefault, size] = row;
  const type = (dataType as string).toLowerCase();
  const words = (extra ?? '').toUpperCase();
  const autoIncrement = words.includes('AUTO_INCREMENT');
  return {
    name: name as string,
    dataType: type,
    columnType: columnType as string,
    unsigned: / unsigned\b/i.test(columnType as string),
    charset: charset ?? null,
    collation: collation ?? null,
    nullable: nullable === 'YES',
    generated: /\b(VIRTUAL|STORED|PERSISTENT) GENERATED|\bVIRTUAL\b|\bPERSISTENT\b/.test(words),
    invisible: words.includes('INVISIBLE'),
    autoIncrement,
    // DEFAULT_GENERATED: an expression, for which some versions show no default.
    hasDefault: hasDefault === '1' || autoIncrement || words.includes('DEFAULT_GENERATED'),
    size: Number(size ?? 0),
    members: type === 'enum' || type === 'set' ? membersOf(columnType as string) : [],
  };
}

/** The index that identifies a row: the primary key, else the first unique one over whole columns that are NOT NULL. */
export function keyIndex(layout: Layout): LayoutIndex | null {
  const primary = layout.indexes.find((index) => index.name === 'PRIMARY');
  if (primary !== undefined && !primary.prefix) return primary;
  const nullable = new Set(layout.columns.filter((column) => column.nullable).map((column) => column.name));
  return (
    layout.indexes.find(
      (index) =>
        index.unique &&
        !index.prefix &&
        index.columns.every((column) => column !== null && !nullable.has(column)),
    ) ?? null
  );
}

/**
 * The layout as the rest of the program sees it. A source leaves generated columns out: their values follow from the others.
 * @throws VerdigrisError SCHEMA_UNSUPPORTED for a type that cannot be copied exactly
 */
export function relationOf(layout: Layout, role: 'source' | 'target'): Relation {
  const kept = layout.columns.filter((column) => role === 'target' || !column.generated);
  const columns = kept.map((column): Column => {
    const kind = kindOf(column.dataType);
    if (kind === null)
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `Column ${column.name} of ${showTable(layout.table)} has type ${column.columnType}, which cannot be copied exactly yet.`,
        { remedy: 'Leave the table out, or change the type of the column.' },
      );
    return {
      name: column.name,
      type: column.columnType,
      kind,
      nullable: column.nullable,
      generated: column.generated,
      hasDefault: column.hasDefault,
      exact: isExact(column.dataType, column.collation),
      mayBeUnchanged: false,
      ...(column.dataType === 'enum' ? { labels: column.members } : {}),
    };
  });
  const index = keyIndex(layout);
  const key = index?.columns.map((name) => kept.findIndex((column) => column.name === name)) ?? [];
  return {
    table: layout.table,
    columns,
    key: key.includes(-1) ? [] : key,
    identity: 'full',
    version: versionOf(layout, kept),
  };
}

/** Changes with whatever changes the text of a value or its place. */
export function versionOf(layout: Layout, columns: readonly LayoutColumn[]): string {
  const facts = columns.map(({ name, columnType, charset, collation, nullable, generated }) => [
    name,
    columnType,
    charset,
    collation,
    nullable,
    generated,
  ]);
  return createHash('sha256')
    .update(JSON.stringify([facts, keyIndex(layout)?.columns ?? []]))
    .digest('hex')
    .slice(0, 16);
}
