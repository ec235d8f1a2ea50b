import { createHash } from 'node:crypto';
import { VerdigrisError } from '../../core/errors.ts';
import { ident } from './sql.ts';
import type { Wire } from './sink-wire.ts';

/** Layout version of our tables. A newer or older one is refused, never guessed. */
export const STATE_FORMAT = 2;

const TABLES = [
  'format',
  'run',
  'lease',
  'journal',
  'checkpoint',
  'ranges',
  'holes',
  'deferred',
  'halves',
] as const;
/** Made when the first verification needs them, so they are no part of the layout above. */
export const VERIFICATION_TABLES = ['verify_round', 'verify_table', 'verify_difference'] as const;
export type StateTable = (typeof TABLES)[number];

/** Made when a log is first read for writes that are not ours. */
export const FOREIGN_TABLES = ['foreign_watch', 'foreign_transaction', 'foreign_change'] as const;

/** Quoted name of a table of ours. */
export const stateTable = (schema: string, table: StateTable): string => `${ident(schema)}.${table}`;

/**
 * Quoted name of the table where parts of merged rows wait for their owner. The name holds a hash, since schema, table, migration
 * and direction together may be longer than an identifier.
 */
export function halvesTable(
  schema: string,
  owner: { migration: string; direction: string },
  table: { schema: string; name: string },
): string {
  const text = JSON.stringify([owner.migration, owner.direction, table.schema, table.name]);
  return `${ident(schema)}.half_${createHash('sha256').update(text).digest('hex').slice(0, 20)}`;
}

function ddl(schema: string): string[] {
  const name = (table: StateTable): string => stateTable(schema, table);
  return [
    `CREATE TABLE ${name('format')} (version integer NOT NULL)`,
    `INSERT INTO ${name('format')} VALUES (${STATE_FORMAT})`,
    `CREATE TABLE ${name('run')} (id text PRIMARY KEY, phase text NOT NULL, epoch bigint NOT NULL, active_side text NOT NULL,
      plan_hash text NOT NULL, detail text NOT NULL, revision bigint NOT NULL, updated timestamptz NOT NULL DEFAULT clock_timestamp())`,
    // The second key makes a change of `term` wait for everybody who holds the row FOR KEY SHARE, and a change of `expires` not:
    // the lease is renewed while chunks of minutes are open, and taken over only when they are gone.
    `CREATE TABLE ${name('lease')} (id text PRIMARY KEY, term bigint NOT NULL, holder text NOT NULL, ttl interval NOT NULL, expires timestamptz NOT NULL,
      UNIQUE (id, term)) WITH (fillfactor = 10)`,
    `CREATE TABLE ${name('journal')} (sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL,
      at timestamptz NOT NULL DEFAULT clock_timestamp(), event text NOT NULL, detail text NOT NULL)`,
    `CREATE INDEX journal_id ON ${name('journal')} (id, sequence)`,
    // One row written per group: room for HOT updates on its page, or an open snapshot slows every group.
    `CREATE TABLE ${name('checkpoint')} (id text, direction text, position text NOT NULL, term bigint NOT NULL, format integer NOT NULL,
      crc bigint NOT NULL, transactions bigint NOT NULL DEFAULT 0, newest_commit_ms bigint, PRIMARY KEY (id, direction))
      WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0)`,
    `CREATE TABLE ${name('ranges')} (id text, direction text, unit text, ordinal integer, lower text, upper text, upto text,
      rows bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0, PRIMARY KEY (id, direction, unit, ordinal))`,
    `CREATE TABLE ${name('holes')} (id text, direction text, table_schema text, table_name text, key text[], kind text NOT NULL,
      column_name text NOT NULL, reason text NOT NULL, stale integer[], at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (id, direction, table_schema, table_name, key))`,
    `CREATE VIEW ${ident(schema)}.rejects AS SELECT id, direction, table_schema, table_name, key, column_name, reason, at,
      stale IS NOT NULL AS stays FROM ${name('holes')} WHERE kind = 'rejected'`,
    `CREATE TABLE ${name('deferred')} (id text, direction text, ordinal integer GENERATED ALWAYS AS IDENTITY, table_schema text NOT NULL,
      table_name text NOT NULL, kind text NOT NULL, name text NOT NULL, definition text NOT NULL, detail text NOT NULL,
      done boolean NOT NULL DEFAULT false, PRIMARY KEY (id, direction, table_schema, table_name, kind, name))`,
    `CREATE TABLE ${name('halves')} (id text, direction text, table_schema text, table_name text, storage text NOT NULL,
      PRIMARY KEY (id, direction, table_schema, table_name))`,
  ];
}

/**
 * Creates our tables. Idempotent, and safe when two engines start at the same time.
 * @throws VerdigrisError STATE_FORMAT for another layout version, or when a part of it is missing
 */
export async function prepareState(wire: Wire, schema: string): Promise<void> {
  const present = await presentTables(wire, schema);
  if (present.size === TABLES.length) {
    await checkFormat(wire, schema);
    return;
  }
  await wire.one('BEGIN');
  try {
    await wire.one('SET LOCAL synchronous_commit = on');
    await wire.one('SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [
      `verdigris state ${schema}`,
    ]);
    const now = await presentTables(wire, schema);
    if (now.size === 0) {
      const exists =
        (await wire.one('SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1', [schema])).rows.length >
        0;
      if (!exists) await wire.one(`CREATE SCHEMA ${ident(schema)}`);
      for (const statement of ddl(schema)) await wire.one(statement);
    } else if (now.size < TABLES.length) {
      const missing = TABLES.filter((table) => !now.has(table));
      throw new VerdigrisError(
        'STATE_FORMAT',
        `Schema ${schema} holds a part of our state; missing: ${missing.join(', ')}.`,
      );
    }
    await wire.one('COMMIT');
  } catch (error) {
    if (!wire.lost) await wire.one('ROLLBACK').catch(() => undefined);
    throw error;
  }
  await checkFormat(wire, schema);
}

async function presentTables(wire: Wire, schema: string): Promise<ReadonlySet<string>> {
  const { rows } = await wire.one(
    `SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname = ANY ($2::text[])`,
    [schema, `{${TABLES.join(',')}}`],
  );
  return new Set(rows.map((row) => row[0] as string));
}

async function checkFormat(wire: Wire, schema: string): Promise<void> {
  const { rows } = await wire.one(`SELECT version::text FROM ${stateTable(schema, 'format')}`);
  const version = rows[0]?.[0];
  if (rows.length !== 1 || version !== String(STATE_FORMAT)) {
    throw new VerdigrisError(
      'STATE_FORMAT',
      `The state in schema ${schema} has format ${version ?? 'none'}; this version reads ${STATE_FORMAT}.`,
    );
  }
}

/** Removes our tables, and the schema when nothing else stands in it. */
export async function dropState(wire: Wire, schema: string): Promise<void> {
  await wire.one(`DROP VIEW IF EXISTS ${ident(schema)}.rejects`);
  for (const table of [...VERIFICATION_TABLES, ...FOREIGN_TABLES])
    await wire.one(`DROP TABLE IF EXISTS ${ident(schema)}.${table}`);
  for (const table of TABLES) await wire.one(`DROP TABLE IF EXISTS ${stateTable(schema, table)}`);
  await wire.one('SAVEPOINT verdigris_schema');
  try {
    await wire.one(`DROP SCHEMA ${ident(schema)}`);
  } catch (error) {
    if (wire.lost) throw error;
    // Not empty, or not ours.
    await wire.one('ROLLBACK TO SAVEPOINT verdigris_schema');
  }
}
