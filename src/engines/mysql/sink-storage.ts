import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position } from '../../core/position.ts';
import type { Hole, HoleChanges, RangeState } from '../../core/sink.ts';
import type { Cell, Tuple } from '../../core/table.ts';
import { text } from './cells.ts';
import type { MysqlConfig } from './config.ts';
import type { Link } from './connect.ts';
import { dropWaiting, type WaitingPlace } from './sink-waiting.ts';
import { literal } from './sql.ts';
import { stateTable, type StateTable } from './state-names.ts';

/** Who writes: the stream whose state and sessions these are. */
export interface SinkStream {
  readonly config: MysqlConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
}

const FORMAT = 1;
const FAIL = '(SELECT 1 UNION ALL SELECT 2)';

export const tableOf = (stream: SinkStream, name: StateTable): string =>
  stateTable(stream.env.stateSchema, name);

export const ownerCondition = ({ env, options }: SinkStream): string =>
  `id = ${literal(env.migration)} AND direction = ${literal(options.direction)}`;

/** Where the parts of merged tables wait. */
export const waitingPlace = ({ env, options }: SinkStream): WaitingPlace => ({
  stateSchema: env.stateSchema,
  migration: env.migration,
  direction: options.direction,
});

const ownerValues = ({ env, options }: SinkStream): string =>
  `${literal(env.migration)}, ${literal(options.direction)}`;

const crcOf = (stream: SinkStream, position: string): number =>
  crc32(JSON.stringify([stream.env.migration, stream.options.direction, FORMAT, position]));

export async function readCheckpoint(link: Link, stream: SinkStream): Promise<Position | null> {
  const row = (
    await link.rows(
      `SELECT position, format, crc FROM ${tableOf(stream, 'checkpoint')} WHERE ${ownerCondition(stream)}`,
    )
  )[0];
  if (row === undefined) return null;
  const position = row[0] as string;
  if (row[1] !== String(FORMAT) || row[2] !== String(crcOf(stream, position)))
    throw new VerdigrisError(
      'STATE_FORMAT',
      'The checkpoint on the sink is damaged, or was made by another version.',
    );
  return asPosition(position);
}

/** False when there is one already. */
export async function writeFirstCheckpoint(
  link: Link,
  stream: SinkStream,
  start: Position,
): Promise<boolean> {
  const { affected } = await link.run(
    `INSERT IGNORE INTO ${tableOf(stream, 'checkpoint')} (id, direction, position, term, format, crc) VALUES
     (${ownerValues(stream)}, ${literal(start)}, ${stream.options.term}, ${FORMAT}, ${crcOf(stream, start)})`,
  );
  return affected === 1;
}

/**
 * The guard of a group and its new checkpoint in one statement, which fails on the server when another term or position stands there.
 * The row of the term is locked, so that a takeover waits for the group. With `end` null only the guard.
 */
export function checkpointStatement(
  stream: SinkStream,
  group: {
    readonly previous: Position;
    readonly end: Position | null;
    readonly transactions: number;
    readonly newestCommitMs: number | null;
  },
): string {
  const { env, options } = stream;
  const term = `(SELECT term FROM ${tableOf(stream, 'term')} WHERE id = ${literal(env.migration)} LOCK IN SHARE MODE)`;
  const holds = `position = ${literal(group.previous)} AND coalesce(${term}, -1) = ${options.term}`;
  const moved =
    group.end === null
      ? ''
      : `, position = ${literal(group.end)}, crc = ${crcOf(stream, group.end)}, transactions = transactions + ${group.transactions}
         ${group.newestCommitMs === null ? '' : `, newest_commit_ms = ${Math.round(group.newestCommitMs)}`}`;
  // Assignments are made from left to right: the guard looks at the position before it changes.
  return `UPDATE ${tableOf(stream, 'checkpoint')} SET term = IF(${holds}, ${options.term}, ${FAIL}), writes = writes + 1${moved} WHERE ${ownerCondition(stream)}`;
}

const encodeKey = (key: Tuple): string =>
  JSON.stringify(key.map((cell) => (cell === null ? null : text(cell))));
const hashOf = (key: string): string => `0x${createHash('sha256').update(key).digest('hex')}`;

export async function writeHoles(link: Link, stream: SinkStream, holes: HoleChanges): Promise<void> {
  for (const { table, key } of holes.closed) {
    await link.run(
      `DELETE FROM ${tableOf(stream, 'holes')} WHERE ${ownerCondition(stream)} AND table_schema = ${literal(table.schema)}
       AND table_name = ${literal(table.name)} AND key_hash = ${hashOf(encodeKey(key))}`,
    );
  }
  for (const { table, key, kind, column, reason } of holes.opened) {
    const row = encodeKey(key);
    await link.run(
      `REPLACE INTO ${tableOf(stream, 'holes')} (id, direction, table_schema, table_name, key_hash, row_key, kind, column_name, reason) VALUES
       (${ownerValues(stream)}, ${literal(table.schema)}, ${literal(table.name)}, ${hashOf(row)}, ${literal(row)}, ${literal(kind)},
        ${literal(column.slice(0, 190))}, ${literal(reason)})`,
    );
  }
}

export async function readHoles(link: Link, stream: SinkStream): Promise<readonly Hole[]> {
  const rows = await link.rows(
    `SELECT table_schema, table_name, row_key, kind, column_name, reason FROM ${tableOf(stream, 'holes')} WHERE ${ownerCondition(stream)}`,
  );
  return rows.map((row) => ({
    table: { schema: row[0] as string, name: row[1] as string },
    key: JSON.parse(row[2] as string) as Tuple,
    kind: row[3] as Hole['kind'],
    column: row[4] as string,
    reason: row[5] as string,
  }));
}

/** n boundaries make n + 1 ranges, all todo or all done. @throws VerdigrisError STATE_CONFLICT when the unit has some */
export async function defineRanges(
  link: Link,
  stream: SinkStream,
  {
    unit,
    boundaries,
    upto,
  }: { readonly unit: string; readonly boundaries: readonly Cell[]; readonly upto: Position | null },
): Promise<void> {
  const present = await link.value(
    `SELECT 1 FROM ${tableOf(stream, 'ranges')} WHERE ${ownerCondition(stream)} AND unit = ${literal(unit)} LIMIT 1`,
  );
  if (present !== null) throw new VerdigrisError('STATE_CONFLICT', `${unit} has ranges already.`);
  const edge = (cell: Cell | undefined): string =>
    cell === undefined || cell === null ? 'NULL' : literal(text(cell));
  const values = Array.from(
    { length: boundaries.length + 1 },
    (_, ordinal) =>
      `(${ownerValues(stream)}, ${literal(unit)}, ${ordinal}, ${edge(boundaries[ordinal - 1])}, ${edge(boundaries[ordinal])}, ${edge(upto)})`,
  );
  for (let at = 0; at < values.length; at += 1_000)
    await link.run(
      `INSERT INTO ${tableOf(stream, 'ranges')} (id, direction, unit, ordinal, lower_bound, upper_bound, upto) VALUES ${values.slice(at, at + 1_000).join(',')}`,
    );
}

export async function readRanges(link: Link, stream: SinkStream): Promise<readonly RangeState[]> {
  const rows = await link.rows(
    `SELECT unit, ordinal, lower_bound, upper_bound, upto, row_count, byte_count FROM ${tableOf(stream, 'ranges')}
     WHERE ${ownerCondition(stream)} ORDER BY unit, ordinal`,
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

/** Fails on the server when the range is done already. */
export function doneStatement(
  stream: SinkStream,
  range: {
    readonly unit: string;
    readonly ordinal: number;
    readonly upto: Position;
    readonly rows: number;
    readonly bytes: number;
  },
): string {
  return `UPDATE ${tableOf(stream, 'ranges')} SET row_count = IF(upto IS NULL, ${range.rows}, ${FAIL}), byte_count = ${Math.round(range.bytes)},
    upto = ${literal(range.upto)} WHERE ${ownerCondition(stream)} AND unit = ${literal(range.unit)} AND ordinal = ${range.ordinal}`;
}

export async function retireStream(link: Link, stream: SinkStream): Promise<void> {
  for (const table of ['checkpoint', 'ranges', 'holes', 'deferred'] as const)
    await link.run(`DELETE FROM ${tableOf(stream, table)} WHERE ${ownerCondition(stream)}`);
  await dropWaiting(link, waitingPlace(stream));
}
