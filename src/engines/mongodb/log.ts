import type { Document, MongoClient, Timestamp } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { isRouter } from './cluster.ts';
import type { MongoConfig } from './config.ts';
import { connect } from './connect.ts';
import { timeOf, type ClusterTime } from './position.ts';

/** What a log holds; of several shards the shortest one counts. */
export interface Log {
  /** First and last entry. */
  readonly first: ClusterTime;
  readonly last: ClusterTime;
  /** It has begun to forget. */
  readonly full: boolean;
  readonly bytes: number;
}

/**
 * Of a replica set, or of all shards behind a router, which does not show it: each shard is asked at its own address, as the same user.
 * @throws VerdigrisError SOURCE_CONNECT when a shard cannot be asked
 */
export async function readLog(client: MongoClient, config: MongoConfig): Promise<Log> {
  if (!(await isRouter(client))) return logOf(client);
  const { shards } = await client.db('admin').command({ listShards: 1 });
  const logs = await Promise.all(
    (shards as readonly { _id: string; host: string }[]).map((shard) => logOfShard(config, shard)),
  );
  const first = logs.reduce((latest, log) => (log.first > latest ? log.first : latest), 0n);
  const last = logs.reduce((latest, log) => (log.last > latest ? log.last : latest), 0n);
  return {
    first,
    last,
    full: logs.some(({ full }) => full),
    bytes: logs.reduce((sum, log) => sum + log.bytes, 0),
  };
}

async function logOfShard(config: MongoConfig, { _id, host }: { _id: string; host: string }): Promise<Log> {
  const [set = '', hosts = ''] = host.split('/');
  try {
    const client = await connect(
      { ...config, url: atHosts(config.url, hosts, set) },
      { appName: 'verdigris:log', connections: 1 },
    );
    try {
      return await logOf(client);
    } finally {
      await client.close();
    }
  } catch {
    throw new VerdigrisError('SOURCE_CONNECT', `The log of shard ${_id} (${host}) cannot be measured.`, {
      remedy: 'A router does not show it: let us reach the shards, and make our user on each of them too.',
    });
  }
}

/** The address with other hosts: those of a shard. */
function atHosts(url: string, hosts: string, set: string): string {
  const [, head = '', query = ''] =
    /^mongodb(?:\+srv)?:\/\/((?:[^@/]*@)?)[^/?]*\/?(?:\?(.*))?$/.exec(url) ?? [];
  const parameters = new URLSearchParams(query);
  for (const name of ['directConnection', 'loadBalanced', 'srvMaxHosts', 'srvServiceName'])
    parameters.delete(name);
  parameters.set('replicaSet', set);
  if (!parameters.has('authSource')) parameters.set('authSource', 'admin');
  return `mongodb://${head}${hosts}/?${parameters.toString()}`;
}

/** Of a replica set. */
export async function logOf(client: MongoClient): Promise<Log> {
  const local = client.db('local');
  const log = local.collection<{ ts: Timestamp }>('oplog.rs');
  const read = { projection: { ts: 1 }, readConcern: { level: 'local' as const } };
  const first = await log.findOne({}, { ...read, sort: { $natural: 1 } });
  const last = await log.findOne({}, { ...read, sort: { $natural: -1 } });
  const stats: Document = await local.command({ collStats: 'oplog.rs' });
  const bytes = Number(stats['size']);
  return {
    first: first === null ? 0n : timeOf(first.ts),
    last: last === null ? 0n : timeOf(last.ts),
    full: bytes >= 0.9 * Number(stats['maxSize']),
    bytes,
  };
}
