import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import { parseLsn, positionOf } from './position.ts';
import { ident, literal, qualified } from './sql.ts';

/**
 * What the publication's comment remembers. It lives on the source and apart from the slot, so that a restored copy, a publication made
 * anew under the same name and a fail-over are told from the database that the run began with.
 */
/** How far the log can be read, as text: what a standby has replayed, what a primary has flushed. */
export const HEAD = `CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END::text`;

export interface Identity {
  readonly migration: string;
  readonly direction: string;
  /** The system identifier of the cluster. */
  readonly system: string;
  /** The newest timeline that a start check has accepted. */
  readonly timeline: number;
  readonly publicationOid: string;
}

export interface PublicationFacts {
  readonly oid: string;
  readonly publishesAll: boolean;
  readonly forAllTables: boolean;
  readonly viaRoot: boolean;
  readonly members: readonly (TableName & { readonly filtered: boolean; readonly partitioned: boolean })[];
  /** Whole schemas, which bring tables nobody listed. */
  readonly schemas: number;
  readonly identity: Identity | null;
}

export interface SlotFacts {
  readonly plugin: string;
  readonly database: string;
  readonly activePid: number | null;
  readonly walStatus: string;
  readonly restart: Position | null;
  readonly confirmed: Position | null;
  readonly safeWalSize: number | null;
  /** Why it was invalidated (17 and newer), or a word of ours; null while it is usable. */
  readonly invalid: string | null;
}

export interface ServerFacts {
  readonly system: string;
  readonly slot: SlotFacts | null;
  readonly publication: PublicationFacts | null;
}

const membersSql = `SELECT jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'partitioned', c.relkind = 'p',
    'filtered', to_jsonb(r)->>'prqual' IS NOT NULL OR to_jsonb(r)->>'prattrs' IS NOT NULL))
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid`;

const factsSql = (version: number): string => `SELECT
  (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system,
  (SELECT to_jsonb(s) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1) AS slot,
  (SELECT to_jsonb(p) || jsonb_build_object(
      'comment', pg_catalog.obj_description(p.oid, 'pg_publication'),
      'members', (${membersSql}),
      'schemas', ${version >= 150_000 ? '(SELECT count(*) FROM pg_catalog.pg_publication_namespace x WHERE x.pnpubid = p.oid)' : '0'})
    FROM pg_catalog.pg_publication p WHERE p.pubname = $2) AS publication`;

export const serverVersion = async (client: pg.Client): Promise<number> => {
  const result = await client.query<{ v: string }>(`SELECT current_setting('server_version_num') AS v`);
  return Number(result.rows[0]?.v);
};

/** Slot and publication as they stand, in one look. */
export async function readFacts(
  client: pg.Client,
  version: number,
  names: { slot: string; publication: string },
): Promise<ServerFacts> {
  const result = await client.query<{ system: string; slot: string | null; publication: string | null }>(
    factsSql(version),
    [names.slot, names.publication],
  );
  const row = result.rows[0];
  if (row === undefined)
    throw new VerdigrisError('INTERNAL', 'The source described neither slot nor publication.');
  return {
    system: row.system,
    slot: row.slot === null ? null : slotFacts(JSON.parse(row.slot) as Record<string, unknown>),
    publication:
      row.publication === null
        ? null
        : publicationFacts(JSON.parse(row.publication) as Record<string, unknown>),
  };
}

function slotFacts(row: Record<string, unknown>): SlotFacts {
  const lsn = (name: string): Position | null =>
    typeof row[name] === 'string' ? positionOf(row[name]) : null;
  const walStatus = typeof row['wal_status'] === 'string' ? row['wal_status'] : 'unknown';
  const reason = row['invalidation_reason'];
  const restart = lsn('restart_lsn');
  return {
    plugin: String(row['plugin']),
    database: String(row['database']),
    activePid: typeof row['active_pid'] === 'number' ? row['active_pid'] : null,
    walStatus,
    restart,
    confirmed: lsn('confirmed_flush_lsn'),
    safeWalSize: typeof row['safe_wal_size'] === 'number' ? row['safe_wal_size'] : null,
    invalid:
      typeof reason === 'string'
        ? reason
        : row['conflicting'] === true
          ? 'conflict with recovery'
          : walStatus === 'lost' || restart === null
            ? 'its log was removed'
            : null,
  };
}

function publicationFacts(row: Record<string, unknown>): PublicationFacts {
  const generated = row['pubgencols'];
  return {
    oid: String(row['oid']),
    publishesAll:
      row['pubinsert'] === true &&
      row['pubupdate'] === true &&
      row['pubdelete'] === true &&
      row['pubtruncate'] === true &&
      // 18 and newer: n(one); published generated columns would be columns that our layouts do not have.
      (generated === undefined || generated === 'n'),
    forAllTables: row['puballtables'] === true,
    viaRoot: row['pubviaroot'] === true,
    members: Array.isArray(row['members']) ? (row['members'] as PublicationFacts['members']) : [],
    schemas: Number(row['schemas']),
    identity: parseIdentity(row['comment']),
  };
}

function parseIdentity(comment: unknown): Identity | null {
  if (typeof comment !== 'string' || !comment.startsWith('verdigris ')) return null;
  try {
    return JSON.parse(comment.slice('verdigris '.length)) as Identity;
  } catch {
    return null;
  }
}

/** What of the publication is not as we made it for these tables, or null. */
export function publicationDifference(facts: PublicationFacts, tables: readonly TableName[]): string | null {
  if (facts.identity === null) return 'it was not made by this program, or was made anew';
  if (facts.identity.publicationOid !== facts.oid) return 'it was dropped and made anew';
  if (facts.forAllTables) return 'it publishes all tables';
  if (facts.schemas > 0) return 'it publishes whole schemas';
  if (!facts.publishesAll)
    return 'it does not publish insert, update, delete and truncate without generated columns';
  const members = new Map(facts.members.map((member) => [tableId(member), member]));
  for (const table of tables) {
    const member = members.get(tableId(table));
    if (member === undefined) return `it does not contain ${showTable(table)}`;
    if (member.filtered) return `it has a row filter or column list for ${showTable(table)}`;
    if (member.partitioned && !facts.viaRoot) return `it does not publish ${showTable(table)} as one table`;
    members.delete(tableId(table));
  }
  const [other] = members.values();
  return other === undefined ? null : `it also contains ${showTable(other)}`;
}

/** Makes the publication for exactly these tables and writes its identity. */
export async function createPublication(
  client: pg.Client,
  name: string,
  made: { readonly tables: readonly TableName[]; readonly identity: Omit<Identity, 'publicationOid'> },
): Promise<void> {
  const kinds = await client.query<{ partitioned: string }>(
    `SELECT c.relkind = 'p' AS partitioned FROM unnest($1::text[], $2::text[]) AS t(s, r)
     JOIN pg_catalog.pg_namespace n ON n.nspname = t.s JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.r`,
    [made.tables.map((table) => table.schema), made.tables.map((table) => table.name)],
  );
  const viaRoot = kinds.rows.some((row) => row.partitioned === 't');
  await client.query('BEGIN');
  try {
    // ONLY: without it the children of an inheritance parent would become members too. It means nothing for a partitioned table.
    const list = made.tables.map((table) => `ONLY ${qualified(table)}`).join(', ');
    await client.query(
      `CREATE PUBLICATION ${ident(name)} FOR TABLE ${list} ` +
        `WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = ${viaRoot})`,
    );
    const oid = await client.query<{ oid: string }>(
      `SELECT oid::text FROM pg_catalog.pg_publication WHERE pubname = $1`,
      [name],
    );
    await writeIdentity(client, name, { ...made.identity, publicationOid: oid.rows[0]?.oid ?? '' });
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

export async function writeIdentity(client: pg.Client, name: string, identity: Identity): Promise<void> {
  await client.query(
    `COMMENT ON PUBLICATION ${ident(name)} IS ${literal(`verdigris ${JSON.stringify(identity)}`)}`,
  );
}

/** Waits for every transaction that is open in the cluster now. Returns the position from which everything is in the log. */
export async function createSlot(client: pg.Client, slot: string, failover: boolean): Promise<Position> {
  const sql = failover
    ? `SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)`
    : `SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')`;
  const result = await client.query<{ lsn: string }>(sql, [slot]);
  return positionOf(result.rows[0]?.lsn ?? '');
}

/** Refuses a slot that cannot continue from `checkpoint` (null: only that it is usable). @throws VerdigrisError SOURCE_* */
export function checkSlot(
  slot: SlotFacts | null,
  name: string,
  checkpoint: Position | null,
): asserts slot is SlotFacts {
  if (slot === null) {
    throw new VerdigrisError(
      'SOURCE_SLOT_MISSING',
      `The replication slot ${name} does not exist on the source.`,
      { context: { slot: name } },
    );
  }
  if (slot.invalid !== null) {
    throw new VerdigrisError(
      'SOURCE_POSITION_LOST',
      `The replication slot ${name} is invalid: ${slot.invalid}.`,
      {
        context: { slot: name, walStatus: slot.walStatus },
      },
    );
  }
  if (checkpoint === null || slot.confirmed === null) return;
  if (parseLsn(slot.confirmed) > parseLsn(checkpoint)) {
    throw new VerdigrisError(
      'SOURCE_AHEAD',
      `The replication slot ${name} was confirmed up to ${slot.confirmed}, beyond our checkpoint ${checkpoint}: what lies between was never applied.`,
      { context: { slot: name, confirmed: slot.confirmed, checkpoint } },
    );
  }
}

/**
 * Is the checkpoint part of the history of the timeline that the server is on now? `history` is the content of its history file: lines of
 * parent timeline, switch point, reason.
 */
export function checkTimeline(
  history: string,
  at: { readonly accepted: number; readonly now: number; readonly checkpoint: Position },
): void {
  if (at.accepted === at.now) return;
  const line = history
    .split('\n')
    .map((text) => /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(text))
    .find((match) => match !== null && Number(match[1]) === at.accepted);
  const switched = line?.[2];
  if (switched !== undefined && parseLsn(at.checkpoint) <= parseLsn(switched)) return;
  throw new VerdigrisError(
    'SOURCE_TIMELINE',
    switched === undefined
      ? `The source is on timeline ${at.now}, which does not come from timeline ${at.accepted}.`
      : `The source left timeline ${at.accepted} at ${switched}, before our checkpoint ${at.checkpoint}.`,
    { context: { accepted: at.accepted, now: at.now, checkpoint: at.checkpoint } },
  );
}

/** The server's spelling of types, with length or precision, in order; null for one that is gone. */
export async function formatTypes(
  client: pg.Client,
  types: readonly { readonly oid: number; readonly typmod: number }[],
): Promise<readonly (string | null)[]> {
  const result = await client.query<{ type: string | null }>(
    `SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_type x WHERE x.oid = t.o) THEN pg_catalog.format_type(t.o, t.m) END AS type
     FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t(o, m, n) ORDER BY t.n`,
    [types.map(({ oid }) => oid), types.map(({ typmod }) => typmod)],
  );
  return result.rows.map((row) => row.type);
}
