import { MongoServerError, type ClientSession, type Db } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position } from '../../core/position.ts';
import type { Hole, HoleChanges, RangeState } from '../../core/sink.ts';
import type { Cell, TableName, Tuple } from '../../core/table.ts';
import { SERVER_CODE } from './errors.ts';

export interface RangeDocument {
  readonly _id: string;
  readonly stream: string;
  readonly unit: string;
  readonly ordinal: number;
  readonly lower: string | null;
  readonly upper: string | null;
  readonly upto: string | null;
  readonly rows: number;
  readonly bytes: number;
  /** Who writes its rows now; every transaction of that writer names it and changes the document. */
  readonly attempt: string | null;
  /** Rows of an attempt that did not end may stand on the sink. */
  readonly dirty: boolean;
  readonly writes: number;
  /** Attempts that ended because of a key that another document has. */
  readonly clashes?: number;
}

interface HoleDocument {
  readonly _id: string;
  readonly stream: string;
  readonly table: TableName;
  readonly key: readonly string[];
  readonly kind: Hole['kind'];
  readonly column: string;
  readonly reason: string;
}

export const rangeId = (stream: string, unit: string, ordinal: number): string =>
  JSON.stringify([stream, unit, ordinal]);

export const rangesOf = (db: Db) => db.collection<RangeDocument>('ranges');

/** n boundaries make n + 1 ranges, all todo or all done. @throws VerdigrisError STATE_CONFLICT when the unit has some */
export async function defineRanges(
  db: Db,
  session: ClientSession,
  {
    stream,
    unit,
    boundaries,
    upto,
  }: { stream: string; unit: string; boundaries: readonly Cell[]; upto: Position | null },
): Promise<void> {
  const edges = [null, ...boundaries.map(String), null];
  const documents: RangeDocument[] = edges.slice(1).map((upper, ordinal) => ({
    _id: rangeId(stream, unit, ordinal),
    ...{ stream, unit, ordinal, lower: edges[ordinal] ?? null, upper },
    ...{ upto, rows: 0, bytes: 0, attempt: null, dirty: false, writes: 0 },
  }));
  try {
    await rangesOf(db).insertMany(documents, { session });
  } catch (error) {
    if (!(error instanceof MongoServerError && error.code === SERVER_CODE.duplicateKey)) throw error;
    throw new VerdigrisError('STATE_CONFLICT', `${unit} has ranges already.`);
  }
}

export async function readRanges(db: Db, stream: string): Promise<readonly RangeState[]> {
  const found = await rangesOf(db).find({ stream }).sort({ unit: 1, ordinal: 1 }).toArray();
  return found.map(({ unit, ordinal, lower, upper, upto, rows, bytes }) => ({
    ...{ unit, ordinal, lower, upper, rows, bytes },
    upto: upto === null ? null : asPosition(upto),
  }));
}

const holeId = (stream: string, table: TableName, key: Tuple): string =>
  JSON.stringify([stream, table.schema, table.name, ...key.map(String)]);

export async function readHoles(db: Db, stream: string): Promise<readonly Hole[]> {
  const found = await db.collection<HoleDocument>('holes').find({ stream }).toArray();
  return found.map(({ table, key, kind, column, reason }) => ({ table, key, kind, column, reason }));
}

/** Holes that open and close, in the transaction of the rows. A hole opened again keeps the newer reason. */
export async function writeHoles(
  db: Db,
  session: ClientSession,
  stream: string,
  { opened, closed }: HoleChanges,
): Promise<void> {
  const holes = db.collection<HoleDocument>('holes');
  if (closed.length > 0) {
    const ids = closed.map(({ table, key }) => holeId(stream, table, key));
    await holes.deleteMany({ _id: { $in: ids } }, { session });
  }
  for (const { table, key, kind, column, reason } of opened) {
    const document = { stream, table, key: key.map(String), kind, column, reason };
    await holes.replaceOne({ _id: holeId(stream, table, key) }, document, { upsert: true, session });
  }
}
