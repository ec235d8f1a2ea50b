import { BSON } from 'mongodb';
import { expect, test } from 'vitest';

import type { ChangeBatch } from '../../src/core/change.ts';
import { tableId, type Relation } from '../../src/core/table.ts';
import { relationOf } from '../../src/engines/mongodb/document.ts';
import type { ChangeEvent } from '../../src/engines/mongodb/event.ts';
import { markSession } from '../../src/engines/mongodb/own-session.ts';
import { clusterTime, parsePosition, showTime } from '../../src/engines/mongodb/position.ts';
import { Assembler } from '../../src/engines/mongodb/stream-assembler.ts';

const TABLE = { schema: 'shop', name: 'items' };
const relation: Relation = relationOf(TABLE, 'a', false);
const START = clusterTime(9, 0);

const at = (counter: number): bigint => clusterTime(10, counter);
const tokenAt = (counter: number): string =>
  `82${(10).toString(16).padStart(8, '0')}${counter.toString(16).padStart(8, '0')}`;

const assembler = (sharded: boolean, maxBatchBytes = 1_000): Assembler =>
  new Assembler({
    relations: new Map([[tableId(TABLE), relation]]),
    stateDatabase: 'state',
    migration: 'm',
    from: { time: START, token: null, set: 'ab' },
    maxBatchBytes,
    sharded,
  });

function inserted(
  counter: number,
  id: number,
  transaction: { id: string; committed?: number; session?: Uint8Array } | null = null,
): ChangeEvent {
  const document = Buffer.from(BSON.serialize({ _id: id }));
  return {
    token: `${tokenAt(counter)}${id}`,
    type: 'insert',
    time: at(counter),
    committed: at(transaction?.committed ?? counter),
    wallMs: 0,
    database: TABLE.schema,
    collection: TABLE.name,
    id: { type: 0x10, name: '_id', bytes: document.subarray(9, 13) },
    document,
    before: null,
    update: null,
    transaction: transaction?.id ?? null,
    session: transaction === null ? null : Buffer.from(transaction.session ?? new Uint8Array(16)),
    to: null,
    bytes: 100,
  };
}

const ids = (batches: readonly ChangeBatch[]): number[] =>
  batches
    .flatMap(({ runs }) => runs)
    .flatMap(({ after }) => after)
    .map((row) => (BSON.deserialize(row[1] as Uint8Array) as { _id: number })._id);

const ends = (batches: readonly ChangeBatch[]): (string | null)[] =>
  batches.map(({ end }) => (end === null ? null : showTime(parsePosition(end).time)));

test('what several shards wrote at one time is one batch, each transaction by itself, and only when a later token has come', () => {
  const a = { id: 'a', committed: 3 };
  const b = { id: 'b', committed: 4 };
  const assembled = assembler(true);
  for (const event of [inserted(5, 1, a), inserted(5, 2, b), inserted(5, 3), inserted(5, 4, a)])
    assembled.add(event);
  assembled.settle();
  // Another shard may have written at that time too: an empty reply only says that nothing has come yet.
  assembled.drained(tokenAt(5));
  assembled.settle();
  expect(assembled.take()).toEqual([]);
  expect(assembled.uncertain).toBe(true);
  assembled.add(inserted(5, 5, { id: 'c' }));
  assembled.drained(tokenAt(6));
  assembled.settle();
  const batches = assembled.take();
  expect(ends(batches)).toEqual(['10.5']);
  expect(ids(batches)).toEqual([1, 4, 2, 3, 5]);
  // As snapshots know them: by when they were committed, not by when a shard wrote it down.
  expect(batches[0]?.transactions.map(({ id }) => id)).toEqual(['10.3', '10.4', '10.5', '10.5']);
  expect(assembled.uncertain).toBe(false);
});

test('a large part of a transaction is handed out in parts, and what other shards wrote at that time goes with its end', () => {
  const assembled = assembler(true, 250);
  assembled.add(inserted(4, 1));
  for (const id of [2, 3, 4, 5]) assembled.add(inserted(5, id, { id: 'large' }));
  assembled.add(inserted(5, 6, { id: 'other' }));
  assembled.add(inserted(6, 7));
  assembled.drained(tokenAt(7));
  assembled.settle();
  const batches = assembled.take();
  expect(ends(batches)).toEqual(['10.4', null, '10.5', '10.6']);
  expect(batches.map((batch) => ids([batch]))).toEqual([[1], [2, 3, 4], [5, 6], [7]]);
});

test('the documents of one statement have one time on a replica set: they are never in two batches', () => {
  const assembled = assembler(false, 250);
  assembled.add(inserted(4, 1));
  assembled.complete(at(5));
  for (const id of [2, 3, 4, 5]) assembled.add(inserted(5, id));
  assembled.settle();
  expect(ends(assembled.take())).toEqual(['10.4']);
  for (const id of [6, 7]) assembled.add(inserted(5, id));
  assembled.drained(tokenAt(5));
  assembled.settle();
  const batches = assembled.take();
  expect(ends(batches)).toEqual(['10.5']);
  expect(ids(batches)).toEqual([2, 3, 4, 5, 6, 7]);
});

test('a transaction of our own sink is told by its session on every shard, and another migration’s is not ours', () => {
  const sessionOf = (migration: string): Uint8Array => {
    const buffer = new Uint8Array(16).fill(7);
    const client = { options: { appName: `verdigris:${migration}:forward:t1` } };
    markSession({ id: { id: { buffer } } } as never, client as never);
    return buffer;
  };
  const assembled = assembler(true);
  assembled.add(inserted(4, 1, { id: 'ours', session: sessionOf('m') }));
  assembled.add(inserted(4, 2, { id: 'theirs', session: sessionOf('n') }));
  assembled.add(inserted(5, 3, { id: 'ours', session: sessionOf('m') }));
  assembled.drained(tokenAt(6));
  assembled.settle();
  const batches = assembled.take();
  expect(ids(batches)).toEqual([2]);
  expect(sessionOf('m').subarray(6, 14)).toEqual(new Uint8Array(8).fill(7));
});
