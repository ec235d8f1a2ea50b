import { MongoServerError, type ClientSession, type Db, type MongoClient } from 'mongodb';
import { crc32 } from 'node:zlib';
import type { Side } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position } from '../../core/position.ts';
import { isRouter } from './cluster.ts';
import { SERVER_CODE, hasLabel } from './errors.ts';
import { markSession } from './own-session.ts';

/** Of the layout of everything below; a newer one is refused. */
const FORMAT = 1;

/** Everything we keep on a server, in the one database that is ours. */
export const COLLECTIONS = [
  'format',
  'lease',
  'run',
  'sequence',
  'journal',
  'checkpoint',
  'ranges',
  'written',
  'holes',
  'deferred',
  'fence',
  'marks',
  'verify_round',
  'verify_table',
  'verify_difference',
  'shadow',
] as const;
export type StateCollection = (typeof COLLECTIONS)[number];

export interface LeaseDocument {
  readonly _id: string;
  readonly term: number;
  readonly holder: string;
  readonly ttl: number;
  readonly expires: Date;
}

export interface CheckpointDocument {
  /** `<migration>/<direction>`. */
  readonly _id: string;
  readonly term: number;
  readonly position: string;
  readonly crc: number;
  /** A source transaction is being applied in parts; until it has ended its changes may be met again. */
  readonly dirty: boolean;
  /** Of a dirty one: where the changes end that may be met again, when they are more than one source transaction. */
  readonly until?: string | null;
  /** Written with every claim and close, so that whoever holds the document in a transaction meets a conflict. */
  readonly touched: number;
}

export const streamId = (migration: string, direction: string): string => `${migration}/${direction}`;

export const crcOf = (id: string, position: string): number => crc32(`${FORMAT}\u0000${id}\u0000${position}`);

/** @throws VerdigrisError STATE_FORMAT when the document was changed by somebody else */
export function positionOf({ _id, position, crc }: CheckpointDocument): Position {
  if (crcOf(_id, position) !== crc)
    throw new VerdigrisError('STATE_FORMAT', 'The checkpoint on the sink is damaged or of another version.');
  return asPosition(position);
}

export const untilOf = ({ until }: CheckpointDocument): Position | null =>
  until === undefined || until === null ? null : asPosition(until);

/** Makes the collections. Idempotent. @throws VerdigrisError STATE_FORMAT */
export async function prepareState(db: Db): Promise<void> {
  const present = new Set(
    (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name),
  );
  if (present.has('format')) {
    const found = await db.collection<{ _id: string; version: number }>('format').findOne({ _id: 'state' });
    if (found !== null && found.version !== FORMAT) {
      throw new VerdigrisError(
        'STATE_FORMAT',
        `The state in ${db.databaseName} is of format ${found.version}.`,
      );
    }
  }
  const missing = COLLECTIONS.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  try {
    if (await isRouter(db.client)) await makeEach(db, missing);
    else await makeTogether(db, missing);
  } catch (error) {
    const code = error instanceof MongoServerError ? error.code : null;
    // Somebody else was quicker.
    if (code !== SERVER_CODE.namespaceExists && code !== SERVER_CODE.duplicateKey) throw error;
    await prepareState(db);
  }
}

/** One transaction: each alone would wait for the journal of a majority. */
async function makeTogether(db: Db, missing: readonly StateCollection[]): Promise<void> {
  // Collections cannot be made in a snapshot.
  await transactAgain(
    db.client,
    async (session) => {
      for (const name of missing) await db.createCollection(name, { session });
      await noteFormat(db, { session });
    },
    'local',
  );
}

/** A router makes no collections in transactions (seen on 8.2: StaleConfig). `format` comes last, and `createCollection` is content with one that is there. */
async function makeEach(db: Db, missing: readonly StateCollection[]): Promise<void> {
  for (const name of missing) await db.createCollection(name);
  await noteFormat(db, {});
}

/** It is there already where a version before this one made the others. */
const noteFormat = (db: Db, options: { readonly session?: ClientSession }): Promise<unknown> =>
  db
    .collection<{ _id: string; version: number }>('format')
    .updateOne({ _id: 'state' }, { $setOnInsert: { version: FORMAT } }, { ...options, upsert: true });

/**
 * Notes which side of the migration this replica set or cluster is. The fence holds for all of it: were both sides one, the fence of green would stop
 * the writers of blue.
 * @throws VerdigrisError PREFLIGHT_FAILED
 */
export async function noteSide(db: Db, migration: string, side: Side): Promise<void> {
  const _id = `side of ${migration}`;
  const found = await db
    .collection<{ _id: string; side: Side }>('format')
    .findOneAndUpdate({ _id }, { $setOnInsert: { side } }, { upsert: true, returnDocument: 'after' });
  if (found === null || found.side === side) return;
  throw new VerdigrisError('PREFLIGHT_FAILED', 'Blue and green are the same replica set or cluster.', {
    remedy: 'Use two: the fence stops the writes of all of it.',
  });
}

export async function forgetSide(db: Db, migration: string): Promise<void> {
  await db.collection<{ _id: string }>('format').deleteOne({ _id: `side of ${migration}` });
}

export const hasState = async (db: Db): Promise<boolean> =>
  (await db.listCollections({ name: 'run' }, { nameOnly: true }).toArray()).length > 0;

/** Removes the database when nothing of any run is left in it. */
export async function dropStateIfEmpty(db: Db): Promise<void> {
  for (const name of ['run', 'lease', 'checkpoint', 'ranges', 'deferred', 'fence'] as const)
    if ((await db.collection(name).findOne({}, { projection: { _id: 1 } })) !== null) return;
  await db.dropDatabase();
}

/**
 * One transaction: everything in it is there when this resolves, on a majority and in the journal, or nothing is.
 * @throws VerdigrisError SINK_LOST when it is not known which; the server's errors as they are
 */
export async function transact<T>(
  client: MongoClient,
  work: (session: ClientSession) => Promise<T>,
  level: 'snapshot' | 'local' = 'snapshot',
): Promise<T> {
  const session = beginTransaction(client, level);
  try {
    const result = await work(session);
    await commit(client, session);
    return result;
  } catch (error) {
    await giveUp(client, session);
    throw error;
  } finally {
    await session.endSession();
  }
}

/**
 * Ends the transaction of a session. Behind a router a part of it can stay open on a shard, also when the abort was answered or the router has given it up by itself, and hold for
 * a minute what it has written.
 */
export async function giveUp(client: MongoClient, session: ClientSession): Promise<void> {
  if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
  if (await isRouter(client)) await killSession(client, session);
}

const killSession = (client: MongoClient, { id }: ClientSession): Promise<unknown> =>
  client
    .db('admin')
    .command({ killSessions: [id] })
    .catch(() => undefined);

/** In a session that tells the log whose transaction it is. */
export function beginTransaction(
  client: MongoClient,
  level: 'snapshot' | 'local' = 'snapshot',
): ClientSession {
  const session = client.startSession({ causalConsistency: false });
  markSession(session, client);
  session.startTransaction({
    readConcern: { level },
    writeConcern: { w: 'majority', journal: true },
    readPreference: 'primary',
  });
  return session;
}

/** @throws VerdigrisError SINK_LOST when it is not known whether it was committed */
export async function commit(client: MongoClient, session: ClientSession): Promise<void> {
  try {
    await session.commitTransaction();
  } catch (error) {
    if (!hasLabel(error, 'UnknownTransactionCommitResult')) throw error;
    // A commit that never arrived leaves the transaction open: for a minute it would hold the checkpoint, which is to decide.
    await killSession(client, session);
    throw new VerdigrisError('SINK_LOST', 'It is not known whether a transaction was committed.');
  }
}

const MOST_TRIES = 30;

/** The same for short transactions of ours that meet each other: again while another one is in the way. */
export async function transactAgain<T>(
  client: MongoClient,
  work: (session: ClientSession) => Promise<T>,
  level: 'snapshot' | 'local' = 'snapshot',
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transact(client, work, level);
    } catch (error) {
      if (attempt >= MOST_TRIES || !hasLabel(error, 'TransientTransactionError')) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5 * attempt));
    }
  }
}
