import type { Document, MongoClient, Timestamp } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { currentOperations } from './current-op.ts';
import { timeOf, type ClusterTime } from './position.ts';

/**
 * How long the outcome of a transaction over several shards may stay open. It takes milliseconds, unless a shard is without a primary.
 */
const OUTCOME_MS = 30_000;
const LOOK_AGAIN_MS = 5;

const routers = new WeakMap<MongoClient, Promise<boolean>>();

/** Whether the router of a sharded cluster answers there. Asked once for each client. */
export function isRouter(client: MongoClient): Promise<boolean> {
  let known = routers.get(client);
  if (known === undefined) {
    known = client
      .db('admin')
      .command({ hello: 1 })
      .then((hello) => hello['msg'] === 'isdbgrid');
    known.catch(() => routers.delete(client));
    routers.set(client, known);
  }
  return known;
}

/** Of a replica set, or of a sharded cluster: stays when members and shards come and go, and when a set is renamed. */
export async function clusterId(client: MongoClient): Promise<string> {
  if (await isRouter(client)) {
    const version = await client.db('config').collection('version').findOne();
    return String((version?.['clusterId'] as { toString(): string } | undefined) ?? '');
  }
  const { config } = (await client.db('admin').command({ replSetGetConfig: 1 })) as {
    config: { settings?: { replicaSetId?: { toString(): string } } };
  };
  return String(config.settings?.replicaSetId ?? '');
}

/**
 * The time of a write that was answered so. A router tells a time at or after it, and has every shard write something behind it: until then
 * the stream, which is that of the slowest shard, would not bring it (an idle shard writes every 10 s).
 */
export async function writtenAt(client: MongoClient, reply: Document): Promise<ClusterTime> {
  if (!(await isRouter(client))) return timeOf((reply['opTime'] as { readonly ts: Timestamp }).ts);
  await noteOnShards(client);
  return timeOf(reply['operationTime'] as Timestamp);
}

/** The end of the log. Behind a router: everything that was committed on any shard before the call is at or before it. */
export async function endOfLog(client: MongoClient): Promise<ClusterTime> {
  const admin = client.db('admin');
  if (!(await isRouter(client))) {
    const hello = await admin.command({ hello: 1 });
    const at = (hello['lastWrite'] as Document)['majorityOpTime'] as { readonly ts: Timestamp };
    return timeOf(at.ts);
  }
  await outcomesKnown(client);
  const { clusterTime: now } = (await admin.command({ ping: 1 }))['$clusterTime'] as {
    readonly clusterTime: Timestamp;
  };
  await noteOnShards(client);
  return timeOf(now);
}

const noteOnShards = (client: MongoClient): Promise<Document> =>
  client.db('admin').command({ appendOplogNote: 1, data: { verdigris: 'everything before' } });

/**
 * Waits until the transactions over several shards that are being committed now have ended on all of them. A snapshot sees such a transaction from one time
 * on, and each shard writes into its log later that it was committed: what is written after this call stands behind all that a snapshot before it saw. It
 * also tells the router the time of every shard, so that it stands behind what any of them has written.
 * @throws VerdigrisError SOURCE_BUSY
 */
export async function outcomesKnown(client: MongoClient): Promise<void> {
  if (!(await isRouter(client))) return;
  // Twice: a session that a command takes up between the server's looks at the busy ones and at the idle ones is in neither.
  const waiting = new Set([...(await prepared(client)), ...(await prepared(client))]);
  const until = performance.now() + OUTCOME_MS;
  while (waiting.size > 0) {
    if (performance.now() > until) {
      throw new VerdigrisError(
        'SOURCE_BUSY',
        `The outcome of ${waiting.size} transactions over several shards stays open.`,
        { remedy: 'Look for a shard without a primary.' },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    const still = new Set(await prepared(client));
    for (const one of waiting) if (!still.has(one)) waiting.delete(one);
  }
}

/** Transactions that are prepared on some shard. */
async function prepared(client: MongoClient): Promise<readonly string[]> {
  const found = await currentOperations(
    client,
    { allUsers: true },
    { 'transaction.timePreparedMicros': { $exists: true } },
  );
  return found.map((one) => {
    const { parameters } = one['transaction'] as { parameters: Document };
    return JSON.stringify([one['lsid'], parameters['txnNumber']]);
  });
}
