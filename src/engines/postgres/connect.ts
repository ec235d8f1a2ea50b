import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { parseDuration } from '../../core/units.ts';
import type { PostgresConfig } from './config.ts';

/**
 * Session settings that decide how values are printed. They are pinned on every connection (walsender, reader, sink), because
 * role and database settings override the server's in silence and then the key text of chunk and stream differ.
 */
export const PINNED = {
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '3',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  search_path: 'pg_catalog',
} as const;

const rawText = { getTypeParser: () => (value: string) => value };

export interface ClientOptions {
  /** `verdigris:<migration>:<purpose>[:t<term>]`: what operators and a takeover see; cut to 63 bytes. */
  readonly applicationName: string;
  /** Further settings, sent at startup so that they hold before the first statement. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Walsender connection. */
  readonly replication?: boolean;
  readonly statementTimeoutMs?: number;
  readonly connectTimeoutMs?: number;
}

/** TLS options of every connection to this side; undefined: none. */
export async function tlsOptions(config: PostgresConfig): Promise<ConnectionOptions | undefined> {
  const url = new URL(config.url);
  const host = decodeURIComponent(url.hostname);
  const local =
    host === '' ||
    host === 'localhost' ||
    host === '[::1]' ||
    host.startsWith('127.') ||
    host.startsWith('/');
  const { mode = local ? 'disable' : 'verify-full', ca, cert, key, servername } = config.tls;
  if (mode === 'disable') return undefined;
  const options: ConnectionOptions = { rejectUnauthorized: true };
  if (ca !== undefined) options.ca = await readFile(ca);
  if (cert !== undefined) options.cert = await readFile(cert);
  if (key !== undefined) options.key = await readFile(key);
  const name = servername ?? host;
  if (!isIP(name)) options.servername = name;
  if (mode === 'verify-ca') options.checkServerIdentity = () => undefined;
  return options;
}

/** `pg` configuration of a connection: raw text for every type, pinned settings, TLS. */
export async function clientConfig(config: PostgresConfig, options: ClientOptions): Promise<pg.ClientConfig> {
  const url = new URL(config.url);
  const ssl = await tlsOptions(config);
  const settings = { ...PINNED, ...options.settings };
  const host = url.searchParams.get('host') ?? decodeURIComponent(url.hostname);
  return {
    host: host === '' ? 'localhost' : host.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 5432 : Number(url.port),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    application_name: Buffer.from(options.applicationName).subarray(0, 63).toString(),
    ssl: ssl ?? false,
    types: rawText as unknown as pg.CustomTypesConfig,
    keepAlive: true,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    options: Object.entries(settings)
      .map(([key, value]) => `-c ${key}=${value.replace(/[\\ ]/g, '\\$&')}`)
      .join(' '),
    ...(options.statementTimeoutMs === undefined ? {} : { statement_timeout: options.statementTimeoutMs }),
    ...(options.replication === true ? { replication: 'database' } : {}),
  } as pg.ClientConfig;
}

/** Connects. The caller ends it. `error` events after connecting are the caller's: attach a listener before awaiting anything else. */
export async function connect(config: PostgresConfig, options: ClientOptions): Promise<pg.Client> {
  const client = new pg.Client(await clientConfig(config, options));
  // Without a listener a lost idle connection would end the process; the next query on the client reports it.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

export const statementTimeout = (config: PostgresConfig): number =>
  parseDuration(config.limits.statement_timeout) as number;
