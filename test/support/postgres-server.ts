export const POSTGRES_VERSIONS = [14, 15, 16, 17, 18] as const;
export type PostgresVersion = (typeof POSTGRES_VERSIONS)[number];

/** The password of the superuser; tests give it to the roles they create, so that `url(database, user)` works for those too. */
export const TEST_PASSWORD = 'sesame-for-tests';

export interface TlsFiles {
  certFile: string;
  keyFile: string;
  caFile: string;
}

export interface PostgresOptions {
  version: PostgresVersion;
  /** Lines of postgresql.conf on top of (and before) those every test server has. */
  settings?: Record<string, string>;
  /** Turns TLS on. Plain connections stay possible unless `hba` says otherwise. */
  tls?: TlsFiles;
  /** The whole pg_hba.conf, when the usual "scram for everybody from 127.0.0.1" does not do. */
  hba?: readonly string[];
}

export interface PostgresServer extends AsyncDisposable {
  readonly version: number;
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** Default: database `postgres`, user `postgres`. Other users are expected to have `TEST_PASSWORD`. */
  url(database?: string, user?: string): string;
  /** `fast` (default) ends sessions in order; `immediate` is a crash: recovery runs at the next start. Data is kept until dispose. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  /** Starts the stopped server again, on the same port and data. */
  start(): Promise<void>;
}

/** What every test server is given: logical replication with room for many slots, and no waiting for the disk. */
export const TEST_SETTINGS: Readonly<Record<string, string>> = {
  wal_level: 'logical',
  max_replication_slots: '40',
  max_wal_senders: '40',
  max_connections: '200',
  max_prepared_transactions: '20',
  fsync: 'off',
  full_page_writes: 'off',
  shared_buffers: '64MB',
  max_wal_size: '256MB',
  min_wal_size: '32MB',
  timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%u@%d %a ',
};

export function postgresUrl(
  at: { port: number; host?: string },
  database = 'postgres',
  user = 'postgres',
): string {
  return `postgres://${user}:${TEST_PASSWORD}@${at.host ?? '127.0.0.1'}:${at.port}/${database}`;
}
