import { readFile } from 'node:fs/promises';
import { MongoClient, type MongoClientOptions } from 'mongodb';
import { parseDuration } from '../../core/units.ts';
import { isLoopback, type MongoConfig } from './config.ts';

/** How long a lost primary is looked for before the call fails and the caller's own back-off begins. */
const SELECTION_MS = 5_000;

/**
 * Connects. Reads and writes go to the primary, are acknowledged by the majority. The driver repeats a single write after an
 * election only where the server knows the repetition; transactions are repeated here, after a look at what became of them.
 */
export async function connect(
  config: MongoConfig,
  options: { readonly appName: string; readonly connections?: number },
): Promise<MongoClient> {
  const client = new MongoClient(config.url, {
    ...(await tlsOptions(config)),
    appName: options.appName.slice(0, 128),
    maxPoolSize: options.connections ?? config.limits.max_connections,
    readPreference: 'primary',
    readConcern: { level: 'majority' },
    writeConcern: { w: 'majority', journal: true },
    retryWrites: true,
    retryReads: true,
    serverSelectionTimeoutMS: SELECTION_MS,
    connectTimeoutMS: SELECTION_MS,
    // Numbers of data never become JavaScript's: documents are handled as bytes. What the servers say of themselves may.
    promoteValues: true,
    promoteLongs: true,
  });
  try {
    await client.connect();
    await client.db('admin').command({ ping: 1 });
  } catch (error) {
    await client.close();
    throw error;
  }
  return client;
}

async function tlsOptions(config: MongoConfig): Promise<MongoClientOptions> {
  const { mode = isLoopback(config.url) ? 'disable' : 'verify-full', ca, cert_key: certKey } = config.tls;
  if (mode === 'disable') return { tls: false };
  return {
    tls: true,
    ...(ca === undefined ? {} : { ca: await readFile(ca) }),
    ...(certKey === undefined ? {} : { cert: await readFile(certKey), key: await readFile(certKey) }),
  };
}

export const statementTimeout = (config: MongoConfig): number =>
  parseDuration(config.limits.statement_timeout) as number;

/** `verdigris:<migration>:<purpose>:t<term>`: who sees our sessions on a server knows whose they are. */
export const appName = (migration: string, purpose: string, term: number): string =>
  `verdigris:${migration}:${purpose}:t${term}`;
