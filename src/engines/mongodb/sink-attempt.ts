import { randomUUID } from 'node:crypto';
import type { ClientSession } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type { ChunkTarget } from '../../core/sink.ts';
import type { KeyRange } from '../../core/snapshot.ts';
import type { Relation } from '../../core/table.ts';
import { idFilter } from './key.ts';
import { readRange } from './range-read.ts';
import { idOf } from './sink-packed.ts';
import { rangeId, rangesOf } from './sink-storage.ts';
import type { SinkStream } from './sink-stream.ts';
import { waitingRelation } from './sink-waiting.ts';
import type { KeyTaken } from './sink-write.ts';
import { removeWritten, writerOf } from './sink-written.ts';
import { transactAgain } from './state-database.ts';
import { deleteStatement } from './update.ts';
import { documentsOf, write } from './wire.ts';

/** Takes the range for an attempt, and what one before it left off the sink. */
export async function begin(
  stream: SinkStream,
  target: ChunkTarget,
  ordinal: number,
  attempt: string,
  signal: AbortSignal,
): Promise<void> {
  const { unit } = target;
  const _id = rangeId(stream.id, unit, ordinal);
  const before = await transactAgain(stream.client, async (session) => {
    await stream.holdLease(session);
    return rangesOf(stream.db).findOneAndUpdate(
      { _id, upto: null },
      { $set: { attempt, dirty: true }, $inc: { writes: 1 } },
      { session, returnDocument: 'before' },
    );
  });
  // A range that is done already: what this attempt writes will be refused.
  if (before?.dirty === true) await takeOff(stream, target, _id, attempt, signal);
}

/** Removes the documents of the range that stand on the sink. */
export async function takeOff(
  stream: SinkStream,
  { range, tables }: Pick<ChunkTarget, 'range' | 'tables'>,
  _id: string,
  attempt: string,
  signal: AbortSignal,
): Promise<void> {
  if (tables.some(({ scattered }) => scattered === true))
    await removeWritten(stream, _id, (work) => inAttempt(stream, _id, attempt, work));
  for (const { relation, scattered } of tables) {
    if (scattered === true) continue;
    await takeOffRange(stream, relation, range, { _id, attempt, signal });
    // Parts of it that came before their owner; all that waits within a range that is not done is of an attempt.
    const waiting = waitingRelation(stream.db, stream.id, relation);
    if (waiting !== null) await takeOffRange(stream, waiting, range, { _id, attempt, signal });
  }
}

async function takeOffRange(
  stream: SinkStream,
  relation: Relation,
  range: KeyRange,
  { _id, attempt, signal }: { readonly _id: string; readonly attempt: string; readonly signal: AbortSignal },
): Promise<void> {
  const { table } = relation;
  const left = readRange(stream.client, relation, range, { idsOnly: true, signal, where: 'sink' });
  for await (const { batch } of left.batches) {
    const statements = documentsOf(batch).map((document) => deleteStatement(idFilter(idOf(document))));
    if (statements.length === 0) continue;
    await inAttempt(stream, _id, attempt, async (session) => {
      const command = {
        kind: 'delete',
        collection: table.name,
        statements,
        keepTimestamps: false,
      } as const;
      await write(stream.client.db(table.schema), command, session);
    });
  }
}

/** One transaction of an attempt. @throws VerdigrisError SINK_LOST when the range is somebody else's by now */
export async function inAttempt(
  stream: SinkStream,
  _id: string,
  attempt: string,
  work: (session: ClientSession) => Promise<void>,
): Promise<void> {
  await transactAgain(stream.client, async (session) => {
    const { matchedCount } = await rangesOf(stream.db).updateOne(
      { _id, attempt, upto: null },
      { $inc: { writes: 1 } },
      { session },
    );
    if (matchedCount !== 1) throw new RangeTaken();
    await work(session);
  });
}

/** The range is somebody else's by now: of another engine, or of a change that came to where its documents stood. */
export class RangeTaken extends VerdigrisError {
  constructor() {
    super('SINK_FENCED', 'The range is copied by another engine.');
  }
}

/**
 * Takes the documents of a range that is not done off the sink, where one of them stands in the way of a change: the snapshot of the range still
 * has it there, the change knows better. The range is copied again. False: there is no such range.
 */
export async function makeRoom(stream: SinkStream, { table, id }: KeyTaken): Promise<boolean> {
  const range = await writerOf(stream, table, id);
  if (range === null) return false;
  const attempt = randomUUID();
  const { matchedCount } = await rangesOf(stream.db).updateOne(
    { _id: range, upto: null },
    { $set: { attempt }, $inc: { writes: 1 } },
  );
  if (matchedCount === 1)
    await removeWritten(stream, range, (work) => inAttempt(stream, range, attempt, work));
  return true;
}
