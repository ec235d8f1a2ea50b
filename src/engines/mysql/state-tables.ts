import { VerdigrisError } from '../../core/errors.ts';
import type { Link } from './connect.ts';
import { ident, literal } from './sql.ts';
import { STATE_TABLES, stateTable, type StateTable } from './state-names.ts';

/** Layout version of our tables. A newer or older one is refused, never guessed. */
export const STATE_FORMAT = 1;

const LOCK_SECONDS = 30;
const TEXT = 'CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
const TAIL = `ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT ${TEXT}`;

function ddl(schema: string): string[] {
  const table = (name: StateTable, columns: string): string =>
    `CREATE TABLE IF NOT EXISTS ${stateTable(schema, name)} (${columns}) ${TAIL}`;
  return [
    `CREATE DATABASE IF NOT EXISTS ${ident(schema)} DEFAULT ${TEXT}`,
    table(
      'run',
      `id varchar(190) NOT NULL PRIMARY KEY, phase varchar(64) NOT NULL, epoch bigint NOT NULL, active_side varchar(16) NOT NULL,
      plan_hash varchar(190) NOT NULL, detail longtext NOT NULL, revision bigint NOT NULL, updated timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)`,
    ),
    // The lease is renewed while transactions of minutes hold the row of its term: two rows, of which only a takeover changes both.
    table(
      'lease',
      `id varchar(190) NOT NULL PRIMARY KEY, term bigint NOT NULL, holder varchar(190) NOT NULL, ttl_ms bigint NOT NULL, expires datetime(6) NOT NULL`,
    ),
    table('term', `id varchar(190) NOT NULL PRIMARY KEY, term bigint NOT NULL`),
    table(
      'journal',
      `sequence bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, id varchar(190) NOT NULL, at datetime(6) NOT NULL, event varchar(190) NOT NULL,
      detail longtext NOT NULL, KEY journal_id (id, sequence)`,
    ),
    table(
      'checkpoint',
      `id varchar(190) NOT NULL, direction varchar(16) NOT NULL, position longtext NOT NULL, term bigint NOT NULL, format int NOT NULL,
      crc bigint NOT NULL, transactions bigint NOT NULL DEFAULT 0, newest_commit_ms bigint NULL, writes bigint NOT NULL DEFAULT 0, PRIMARY KEY (id, direction)`,
    ),
    table(
      'ranges',
      `id varchar(190) NOT NULL, direction varchar(16) NOT NULL, unit varchar(190) NOT NULL, ordinal int NOT NULL, lower_bound longtext NULL,
      upper_bound longtext NULL, upto longtext NULL, row_count bigint NOT NULL DEFAULT 0, byte_count bigint NOT NULL DEFAULT 0, PRIMARY KEY (id, direction, unit, ordinal)`,
    ),
    table(
      'holes',
      `id varchar(190) NOT NULL, direction varchar(16) NOT NULL, table_schema varchar(64) NOT NULL, table_name varchar(64) NOT NULL,
      key_hash binary(32) NOT NULL, row_key longtext NOT NULL, kind varchar(16) NOT NULL, column_name varchar(190) NOT NULL, reason text NOT NULL,
      at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (id, direction, table_schema, table_name, key_hash)`,
    ),
    table(
      'deferred',
      `id varchar(190) NOT NULL, direction varchar(16) NOT NULL, ordinal bigint NOT NULL AUTO_INCREMENT, table_schema varchar(64) NOT NULL,
      table_name varchar(64) NOT NULL, kind varchar(16) NOT NULL, name varchar(64) NOT NULL, definition longtext NOT NULL, done tinyint NOT NULL DEFAULT 0,
      PRIMARY KEY (id, direction, table_schema, table_name, kind, name), KEY (ordinal)`,
    ),
    // Written and removed again in every transaction of a chunk, so that a reader of this server's log knows it as ours.
    table('own', `id varchar(190) NOT NULL, token varchar(64) NOT NULL, PRIMARY KEY (id, token)`),
    table(
      'marks',
      `id varchar(190) NOT NULL, direction varchar(16) NOT NULL, label varchar(190) NOT NULL, times bigint NOT NULL DEFAULT 0, PRIMARY KEY (id, direction)`,
    ),
    table(
      'fence',
      `id varchar(190) NOT NULL PRIMARY KEY, state varchar(16) NOT NULL, epoch bigint NOT NULL, barrier longtext NULL, detail longtext NULL,
      changed datetime(6) NOT NULL`,
    ),
    // Last: who finds it finds everything.
    table('format', 'version int NOT NULL PRIMARY KEY'),
    `INSERT IGNORE INTO ${stateTable(schema, 'format')} (version) VALUES (${STATE_FORMAT})`,
  ];
}

/**
 * Creates our tables. Idempotent, and safe when two engines start at the same time.
 * @throws VerdigrisError STATE_FORMAT for another layout version, or when a part of it is missing
 */
export async function prepareState(link: Link, schema: string): Promise<void> {
  const present = await presentTables(link, schema);
  if (!present.has('format')) {
    const lock = literal(`verdigris state ${schema}`.slice(0, 64));
    if ((await link.value(`SELECT GET_LOCK(${lock}, ${LOCK_SECONDS})`)) !== '1')
      throw new VerdigrisError(
        'STATE_FAILED',
        `Another engine is making the tables of our state in ${schema} for too long.`,
      );
    try {
      for (const statement of ddl(schema)) await link.run(statement);
    } finally {
      await link.value(`SELECT RELEASE_LOCK(${lock})`);
    }
  } else if (present.size < STATE_TABLES.length) {
    const missing = STATE_TABLES.filter((table) => !present.has(table));
    throw new VerdigrisError(
      'STATE_FORMAT',
      `Database ${schema} holds a part of our state; missing: ${missing.join(', ')}.`,
    );
  }
  const rows = await link.rows(`SELECT version FROM ${stateTable(schema, 'format')}`);
  if (rows.length === 1 && rows[0]?.[0] === String(STATE_FORMAT)) return;
  throw new VerdigrisError(
    'STATE_FORMAT',
    `The state in database ${schema} has format ${rows.map(([version]) => version).join(', ') || 'none'}; this version reads ${STATE_FORMAT}.`,
  );
}

export async function presentTables(link: Link, schema: string): Promise<ReadonlySet<string>> {
  const rows = await link.rows(
    `SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${literal(schema)}
     AND TABLE_NAME IN (${STATE_TABLES.map(literal).join(', ')})`,
  );
  return new Set(rows.map(([name]) => name as string));
}

/** Made when the first verification needs them, so they are no part of the layout above. */
export const VERIFICATION_TABLES = ['verify_round', 'verify_table', 'verify_difference'] as const;

/** Removes our tables, and the database when nothing else stands in it. */
export async function dropState(link: Link, schema: string): Promise<void> {
  for (const table of [...VERIFICATION_TABLES, ...STATE_TABLES])
    await link.run(`DROP TABLE IF EXISTS ${ident(schema)}.${ident(table)}`);
  const left = await link.value(
    `SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${literal(schema)}`,
  );
  if (left === '0') await link.run(`DROP DATABASE IF EXISTS ${ident(schema)}`);
}
