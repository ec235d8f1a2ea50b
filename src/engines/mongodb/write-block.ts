import { setTimeout as delay } from 'node:timers/promises';
import type { Document, MongoClient } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { isRouter } from './cluster.ts';
import { IN_TRANSACTION, currentOperations } from './current-op.ts';
import { SERVER_CODE, codeOfError } from './errors.ts';

/** Between two looks at what a router is told. */
const LOOK_MS = 50;
/** So long a shard may wait for a moment without writers, in which nobody else can write. */
const SHARD_WAITS_MS = 100;
/** What could not be raised is given up by the cluster when it is up everywhere: after that long we end what keeps it from that. */
const GIVEN_UP_MS = 1_000;
/** And then that long, until the server itself has ended the transactions (transactionLifetimeLimitSeconds). */
const LOWER_MS = 90_000;

/**
 * Switches the block of user writes, which holds for a whole replica set or cluster.
 * @throws VerdigrisError CUTOVER_UNDONE when open transactions are in the way
 */
export async function setWriteBlock(client: MongoClient, global: boolean, timeoutMs: number): Promise<void> {
  try {
    if (!(await isRouter(client))) await send(client, global, timeoutMs);
    else if (global) await raiseOnShards(client, timeoutMs);
    else await lowerOnShards(client);
  } catch (error) {
    throw global && codeOfError(error) === SERVER_CODE.maxTimeExpired ? heldDown(timeoutMs) : error;
  }
}

const heldDown = (timeoutMs: number): VerdigrisError =>
  new VerdigrisError(
    'CUTOVER_UNDONE',
    `Open transactions kept the fence from going up for ${timeoutMs} ms.`,
    { remedy: 'See which transactions are open (status), or let them be ended (kill_blockers_after).' },
  );

/** The shards go on when a router gives up, so what would hold them up for long is waited for before. */
async function raiseOnShards(client: MongoClient, timeoutMs: number): Promise<void> {
  const until = performance.now() + timeoutMs;
  while ((await openWriters(client)).some(({ openMs }) => openMs > GIVEN_UP_MS)) {
    if (performance.now() > until) throw heldDown(timeoutMs);
    await delay(LOOK_MS);
  }
  await unstuck(client, send(client, true, until - performance.now()));
}

const send = async (client: MongoClient, global: boolean, timeoutMs: number): Promise<void> => {
  const maxTimeMS = Math.max(1, Math.ceil(timeoutMs));
  await client.db('admin').command({ setUserWriteBlockMode: 1, global, maxTimeMS });
};

/** A cluster that still tries to raise what was given up refuses to lower it. */
async function lowerOnShards(client: MongoClient): Promise<void> {
  const began = performance.now();
  for (;;) {
    const waited = performance.now() - began;
    try {
      return await unstuck(client, send(client, false, LOWER_MS - waited));
    } catch (error) {
      if (codeOfError(error) !== SERVER_CODE.conflictingOperation || waited > LOWER_MS) throw error;
    }
    await letShardsGo(client);
    // Where it is up already nobody can write, and one open transaction would keep it so.
    if (waited > GIVEN_UP_MS) await endWriters(client, await openWriters(client));
    await delay(LOOK_MS);
  }
}

/**
 * A shard waits for the moment without writers in front of all others. A transaction over several shards needs the lock once more to be committed, and is behind it then: both
 * would stand still for a minute (seen on 8.2). So a shard that waits is interrupted, which lets the others go on, and the cluster has it try again.
 */
async function unstuck(client: MongoClient, work: Promise<void>): Promise<void> {
  let over = false;
  const ended = work.finally(() => {
    over = true;
  });
  ended.catch(() => undefined);
  for (;;) {
    await Promise.race([ended, delay(LOOK_MS)]);
    if (over) return ended;
    await letShardsGo(client);
  }
}

async function letShardsGo(client: MongoClient): Promise<void> {
  const waiting = await currentOperations(
    client,
    { allUsers: true },
    {
      'command._shardsvrSetUserWriteBlockMode': { $exists: true },
      waitingForLock: true,
      microsecs_running: { $gt: SHARD_WAITS_MS * 1_000 },
    },
  );
  for (const { opid } of waiting) await client.db('admin').command({ killOp: 1, op: opid as unknown });
}

export interface Writer {
  readonly text: string;
  readonly openMs: number;
  readonly lsid: Document;
}

/** Transactions of others that have written: an intent to write is on the global lock. Behind a router one for each shard that it is on. */
export async function openWriters(client: MongoClient): Promise<readonly Writer[]> {
  const open = await currentOperations(
    client,
    { allUsers: true },
    {
      ...IN_TRANSACTION,
      'locks.Global': { $in: ['w', 'W'] },
      appName: { $not: /^verdigris:/ },
    },
  );
  return open.map((one) => {
    const transaction = one['transaction'] as Document;
    const openMs = Number(transaction['timeOpenMicros'] ?? 0) / 1_000;
    const who = String(one['appName'] ?? one['client'] ?? 'unknown');
    return {
      text: `transaction of ${who}, open for ${Math.round(openMs)} ms`,
      openMs,
      lsid: one['lsid'] as Document,
    };
  });
}

export async function endWriters(client: MongoClient, writers: readonly Writer[]): Promise<void> {
  if (writers.length === 0) return;
  await client.db('admin').command({ killAllSessionsByPattern: writers.map(({ lsid }) => ({ lsid })) });
}
