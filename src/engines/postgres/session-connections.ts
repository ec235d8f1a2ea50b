import type pg from 'pg';
import type { Side } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { connect, statementTimeout } from './connect.ts';
import type { PostgresConfig } from './config.ts';
import { COUNTER_SETTINGS } from './counters.ts';
import { translate } from './errors.ts';
import { ConnectionPool } from './session-pool.ts';

/** Oldest server whose log and snapshots have all that is used here. */
const OLDEST = 140_000;

const IDLE_MS = 30_000;

/** A role's or database's own time limits and row security would end or thin out a copy in silence. */
const GUARDS = {
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  lock_timeout: '0',
  row_security: 'off',
  jit: 'off',
} as const;

/** What operators' statements and schema files expect where the program's own ones name every schema. */
export const OPERATOR_SEARCH_PATH = '"$user", public';

export interface OpenOptions {
  readonly config: PostgresConfig;
  readonly migration: string;
  /** Last part of the application name: what the connection is for. */
  readonly purpose: string;
  readonly settings?: Readonly<Record<string, string>>;
  readonly statementTimeoutMs?: number;
}

/** Opens a connection with pinned settings and without time limits of others. The caller ends it. */
export async function openConnection(options: OpenOptions): Promise<pg.Client> {
  const client = await connect(options.config, {
    applicationName: `verdigris:${options.migration}:${options.purpose}`,
    settings: { ...GUARDS, ...options.settings },
    statementTimeoutMs: options.statementTimeoutMs ?? statementTimeout(options.config),
  });
  try {
    // PostgreSQL 17 and newer; a server that does not know a setting would refuse it at startup.
    await client.query(
      `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'`,
    );
    // Ends a backend that waits for a lock after we have gone. Some platforms of the server cannot do it.
    await client.query(`SET client_connection_check_interval = '1s'`).catch(() => undefined);
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}

/** The connections of one side, by purpose, so that one purpose never waits for another. All are opened when first needed. */
export interface Connections extends AsyncDisposable {
  /** Catalog and other short questions. */
  readonly query: ConnectionPool;
  /** The snapshot asked for once per group during the copy. */
  readonly visibility: ConnectionPool;
  readonly copy: ConnectionPool;
  readonly verify: ConnectionPool;
  /** Operators' statements, with an ordinary search path. */
  readonly operator: ConnectionPool;
  /** Sequences, which are also moved while clients wait. */
  readonly counters: ConnectionPool;
}

export function createConnections(config: PostgresConfig, migration: string): Connections {
  const pool = (
    purpose: string,
    max: number,
    settings: Readonly<Record<string, string>> = {},
  ): ConnectionPool =>
    new ConnectionPool({
      open: () => openConnection({ config, migration, purpose, settings }),
      max,
      idleMs: IDLE_MS,
    });
  const budget = config.limits.max_connections;
  const pools = {
    query: pool('query', 2),
    visibility: pool('visibility', 1),
    // What is left beside the stream, the marks, the two above and apply.
    copy: pool('copy', Math.max(1, budget - 6)),
    verify: pool('verify', Math.max(1, Math.floor(budget / 3))),
    operator: pool('operator', 1, { search_path: OPERATOR_SEARCH_PATH }),
    counters: pool('counters', 1, COUNTER_SETTINGS),
  };
  return {
    ...pools,
    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all(Object.values(pools).map((each) => each[Symbol.asyncDispose]()));
    },
  };
}

/**
 * Proves that the side can be reached and used.
 * @throws VerdigrisError SOURCE_CONNECT or SINK_CONNECT by side, PREFLIGHT_FAILED for a server that is too old
 */
export async function proveConnection(connections: Connections, side: Side): Promise<void> {
  const where = side === 'blue' ? 'source' : 'sink';
  let version: number;
  try {
    version = await connections.query.use(async (client) => {
      const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num');
      return Number(rows[0]?.server_version_num ?? 0);
    });
  } catch (error) {
    const translated = translate(error, where);
    throw new VerdigrisError(
      side === 'blue' ? 'SOURCE_CONNECT' : 'SINK_CONNECT',
      `The ${side} server cannot be reached: ${translated.message}`,
      { context: translated.context },
    );
  }
  if (version < OLDEST) {
    throw new VerdigrisError(
      'PREFLIGHT_FAILED',
      `The ${side} server is PostgreSQL ${Math.floor(version / 10_000)}; the oldest supported is 14.`,
      {
        remedy: 'Upgrade the server.',
      },
    );
  }
}
