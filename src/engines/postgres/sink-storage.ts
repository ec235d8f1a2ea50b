import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import { asPosition, type Position } from '../../core/position.ts';
import type { Hole, RangeState } from '../../core/sink.ts';
import type { Cell } from '../../core/table.ts';
import { elementStorage } from './sink-elements.ts';
import { plain, transact, type SinkStream } from './sink-session.ts';
import { cellText, textArray } from './sink-text.ts';
import type { Wire } from './sink-wire.ts';
import { ident, qualified } from './sql.ts';
import { halvesTable, stateTable } from './state-tables.ts';

const who = ({ env, options }: SinkStream): readonly [string, string] => [env.migration, options.direction];

/**
 * Tables of ours that belong to one table of the sink: where parts of merged rows wait for their owner (key and part columns, without
 * constraints), and where elements of arrays are kept.
 */
export async function ensureHalves(
  wire: Wire,
  stream: SinkStream,
  tables: readonly TargetTable[],
): Promise<void> {
  const schema = stream.env.stateSchema;
  const [migration, direction] = who(stream);
  const halves = stateTable(schema, 'halves');
  for (const target of tables) {
    const { relation } = target;
    const name = halvesTable(schema, { migration, direction }, relation.table);
    const made = target.elements === undefined ? waitingStorage(name, target) : elementStorage(name, target);
    if (made.length === 0) continue;
    const known = await wire.one(
      `SELECT 1 FROM ${halves} WHERE id = $1 AND direction = $2 AND table_schema = $3 AND table_name = $4`,
      [migration, direction, relation.table.schema, relation.table.name],
    );
    if (known.rows.length > 0) continue;
    await transact(wire, stream, [
      plain('SET LOCAL synchronous_commit = on'),
      ...made.map((statement) => plain(statement)),
      plain(`INSERT INTO ${halves} VALUES ($1, $2, $3, $4, $5)`, [
        migration,
        direction,
        relation.table.schema,
        relation.table.name,
        name,
      ]),
    ]);
  }
}

function waitingStorage(name: string, { relation, merge }: TargetTable): readonly string[] {
  if (merge === null) return [];
  const parts = merge.parts.flatMap((part) => part.columns);
  const columns = [...new Set([...relation.key, ...parts])].map((index) =>
    ident(relation.columns[index]?.name ?? ''),
  );
  const key = relation.key.map((index) => ident(relation.columns[index]?.name ?? ''));
  return [
    `CREATE TABLE ${name} AS SELECT ${columns.join(', ')} FROM ${qualified(relation.table)} WITH NO DATA`,
    `ALTER TABLE ${name} ADD PRIMARY KEY (${key.join(', ')})`,
  ];
}

export async function dropHalves(wire: Wire, stream: SinkStream): Promise<void> {
  const halves = stateTable(stream.env.stateSchema, 'halves');
  const present = await wire.one('SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL', [halves]);
  if (present.rows.length === 0) return;
  const { rows } = await wire.one(
    `SELECT storage FROM ${halves} WHERE id = $1 AND direction = $2`,
    who(stream),
  );
  for (const row of rows) await wire.one(`DROP TABLE IF EXISTS ${row[0] as string}`);
}

/** Removes the rows of this stream. Not guarded by the lease: aborting is what one does when the lease is gone. */
export async function retireStream(wire: Wire, stream: SinkStream): Promise<void> {
  for (const table of ['halves', 'deferred', 'holes', 'ranges', 'checkpoint'] as const) {
    const name = stateTable(stream.env.stateSchema, table);
    const present = await wire.one('SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL', [name]);
    if (present.rows.length > 0)
      await wire.one(`DELETE FROM ${name} WHERE id = $1 AND direction = $2`, who(stream));
  }
}

/** n boundaries make n + 1 ranges, all todo or all done. @throws VerdigrisError STATE_CONFLICT when the unit has some */
export async function defineRanges(
  wire: Wire,
  stream: SinkStream,
  {
    unit,
    boundaries,
    upto,
  }: { readonly unit: string; readonly boundaries: readonly Cell[]; readonly upto: Position | null },
): Promise<void> {
  const [migration, direction] = who(stream);
  const texts = boundaries.map((cell) => cellText(cell));
  const ranges = stateTable(stream.env.stateSchema, 'ranges');
  const [, outcome] = await transact(wire, stream, [
    plain('SET LOCAL synchronous_commit = on'),
    plain(
      `INSERT INTO ${ranges} (id, direction, unit, ordinal, lower, upper, upto)
       SELECT $1, $2, $3, (n - 1)::integer, lower, upper, $6 FROM unnest($4::text[], $5::text[]) WITH ORDINALITY AS u(lower, upper, n)
       WHERE NOT EXISTS (SELECT FROM ${ranges} WHERE id = $1 AND direction = $2 AND unit = $3) RETURNING 1`,
      [migration, direction, unit, textArray([null, ...texts]), textArray([...texts, null]), upto],
    ),
  ]);
  if (outcome?.rows.length !== boundaries.length + 1) {
    throw new VerdigrisError('STATE_CONFLICT', `The copy unit ${unit} has ranges already.`, {
      context: { unit },
    });
  }
}

export async function readRanges(wire: Wire, stream: SinkStream): Promise<readonly RangeState[]> {
  const { rows } = await wire.one(
    `SELECT unit, ordinal::text, lower, upper, upto, rows::text, bytes::text FROM ${stateTable(stream.env.stateSchema, 'ranges')}
     WHERE id = $1 AND direction = $2 ORDER BY unit, ordinal`,
    who(stream),
  );
  return rows.map((row) => ({
    unit: row[0] as string,
    ordinal: Number(row[1]),
    lower: row[2] ?? null,
    upper: row[3] ?? null,
    upto: row[4] === null || row[4] === undefined ? null : asPosition(row[4]),
    rows: Number(row[5]),
    bytes: Number(row[6]),
  }));
}

export async function readHoles(wire: Wire, stream: SinkStream): Promise<readonly Hole[]> {
  const { rows } = await wire.one(
    `SELECT table_schema, table_name, pg_catalog.array_to_json(key)::text, kind, column_name, reason,
       pg_catalog.array_to_json(stale)::text FROM ${stateTable(stream.env.stateSchema, 'holes')} WHERE id = $1 AND direction = $2
     ORDER BY table_schema, table_name, key`,
    who(stream),
  );
  return rows.map((row) => ({
    table: { schema: row[0] as string, name: row[1] as string },
    key: JSON.parse(row[2] as string) as (string | null)[],
    kind: row[3] as Hole['kind'],
    column: row[4] as string,
    reason: row[5] as string,
    ...(typeof row[6] === 'string' ? { stale: JSON.parse(row[6]) as number[] } : {}),
  }));
}
