import { createHash } from 'node:crypto';
import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import { ident, literal, MAX_IDENTIFIER_BYTES, qualified } from './sql.ts';

/** SQLSTATE with which a guard refuses a write. */
export const FENCED = 'VG001';

/** The custom setting by which the guard knows our own apply sessions; its value is the name of the migration. */
export const APPLIER_SETTING = 'verdigris.applier';

/** A mapped table, a partition of one, or an inheritance child. */
export interface Member {
  readonly oid: string;
  readonly table: TableName;
  /** r: holds rows itself, p: partitioned. */
  readonly kind: 'r' | 'p';
  /** It has a parent that is not in the family: an insert through that parent fires no statement trigger of ours. */
  readonly foreignParent: boolean;
}

/** A trigger of ours as the catalog has it. */
export interface Guard {
  readonly oid: string;
  readonly table: TableName;
  readonly name: string;
  /** pg_trigger.tgenabled: O origin, D disabled, R replica, A always. */
  readonly enabled: string;
}

export interface GuardNames {
  readonly statement: string;
  readonly row: string;
  readonly function: string;
}

/** Names of the objects of one migration. Longer names are cut and made unique by a hash: the server would cut in silence. */
export function guardNames(migration: string): GuardNames {
  return {
    statement: bounded('verdigris_', migration, '_guard_stmt'),
    row: bounded('verdigris_', migration, '_guard_row'),
    function: bounded('guard_', migration, ''),
  };
}

function bounded(head: string, middle: string, tail: string): string {
  const whole = `${head}${middle}${tail}`;
  if (Buffer.byteLength(whole) <= MAX_IDENTIFIER_BYTES) return whole;
  const hash = createHash('sha256').update(middle).digest('hex').slice(0, 10);
  let kept = '';
  for (const character of middle) {
    if (Buffer.byteLength(`${head}${kept}${character}_${hash}${tail}`) > MAX_IDENTIFIER_BYTES) break;
    kept += character;
  }
  return `${head}${kept}_${hash}${tail}`;
}

/**
 * The guard function. Names are qualified instead of pinned by SET search_path, which would cost on every row. It reads no
 * table: a REPEATABLE READ transaction older than the fence would see the old state there, but not old triggers.
 */
export function functionSql(schema: string, migration: string, role: string): string {
  const body = `
begin
  if session_user::pg_catalog.text operator(pg_catalog.=) ${literal(role)}
     and coalesce(pg_catalog.current_setting(${literal(APPLIER_SETTING)}, true), '') operator(pg_catalog.=) ${literal(migration)} then
    if tg_op operator(pg_catalog.=) 'DELETE' then return old; end if;
    if tg_op operator(pg_catalog.=) 'TRUNCATE' then return null; end if;
    return new;
  end if;
  raise exception using
    errcode = '${FENCED}',
    message = pg_catalog.format('%I.%I is fenced by a verdigris cutover: this side takes no writes', tg_table_schema, tg_table_name),
    hint = 'Connect through the proxy; writes go on there when the switch is over.';
end`;
  return `CREATE OR REPLACE FUNCTION ${ident(schema)}.${ident(guardNames(migration).function)}() RETURNS trigger LANGUAGE plpgsql AS ${literal(body)}`;
}

const FAMILY = `
WITH RECURSIVE wanted AS (
  SELECT c.oid FROM unnest($1::text[], $2::text[]) AS w(schema, name)
  JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), tree(oid, depth) AS (
  SELECT oid, 0 FROM wanted
  UNION
  SELECT i.inhrelid, t.depth + 1 FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
), member AS (SELECT oid, max(depth) AS depth FROM tree GROUP BY oid)
SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       EXISTS (SELECT FROM pg_inherits i LEFT JOIN member m ON m.oid = i.inhparent
               WHERE i.inhrelid = c.oid AND m.oid IS NULL) AS foreign_parent
FROM member JOIN pg_class c ON c.oid = member.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't'
ORDER BY member.depth, c.oid`;

interface FamilyRow {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
  readonly foreign_parent: string;
}

/**
 * The mapped tables with all their partitions and inheritance children, parents first, then by oid: the one order in
 * which locks are taken.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_UNSUPPORTED for a foreign table
 */
export async function family(client: pg.Client, tables: readonly TableName[]): Promise<readonly Member[]> {
  const { rows } = await client.query<FamilyRow>(FAMILY, [
    tables.map((table) => table.schema),
    tables.map((table) => table.name),
  ]);
  const members = rows.map((row): Member => {
    const table = { schema: row.schema, name: row.name };
    if (row.kind !== 'r' && row.kind !== 'p') {
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `${showTable(table)} is not an ordinary table and cannot be fenced`,
        {
          remedy: 'Detach it from its parent, or leave its parent out of the migration.',
          context: { table: showTable(table), relkind: row.kind },
        },
      );
    }
    return { oid: row.oid, table, kind: row.kind, foreignParent: row.foreign_parent === 't' };
  });
  const found = new Set(members.map((member) => tableId(member.table)));
  const missing = tables.find((table) => !found.has(tableId(table)));
  if (missing !== undefined) {
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `${showTable(missing)} does not exist`, {
      context: { table: showTable(missing) },
    });
  }
  return members;
}

/** Every trigger that calls this migration's guard function, also on tables that left the mapping or their parent. */
export async function readGuards(
  client: pg.Client,
  schema: string,
  migration: string,
): Promise<readonly Guard[]> {
  const { rows } = await client.query<{
    oid: string;
    schema: string;
    name: string;
    trigger: string;
    enabled: string;
  }>(
    `SELECT t.tgrelid::text AS oid, tn.nspname AS schema, c.relname AS name, t.tgname AS trigger, t.tgenabled::text AS enabled
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace tn ON tn.oid = c.relnamespace
     JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
     WHERE pn.nspname = $1 AND p.proname = $2 ORDER BY t.tgrelid, t.tgname`,
    [schema, guardNames(migration).function],
  );
  return rows.map((row) => ({
    oid: row.oid,
    table: { schema: row.schema, name: row.name },
    name: row.trigger,
    enabled: row.enabled,
  }));
}

/** Guards as they stand, with the transactions that wrote their rows of the catalog: an ALTER TABLE there and back leaves a new one. */
export async function guardEvidence(client: pg.Client, schema: string, migration: string): Promise<string> {
  const { rows } = await client.query<{ evidence: string | null }>(
    `SELECT md5(string_agg(concat_ws(' ', t.oid, t.tgrelid, t.tgenabled, t.xmin, p.oid, p.xmin), ',' ORDER BY t.oid)) AS evidence
     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
     WHERE pn.nspname = $1 AND p.proname = $2`,
    [schema, guardNames(migration).function],
  );
  return rows[0]?.evidence ?? 'none';
}

/**
 * Guards a member needs. Statement triggers stop every client; logical apply workers fire only row triggers, and so does an
 * insert routed in through a parent that is not fenced itself.
 */
export function wantedGuards(member: Member, names: GuardNames, rowGuards: boolean): readonly string[] {
  const row = member.kind === 'r' && (rowGuards || member.foreignParent);
  return row ? [names.statement, names.row] : [names.statement];
}

/** Creates the missing guards of a member in the given state. Without recursion: every partition has its own. */
export function createSql(
  member: Member,
  missing: readonly string[],
  options: { readonly schema: string; readonly migration: string; readonly enabled: boolean },
): string {
  const names = guardNames(options.migration);
  const call = `EXECUTE FUNCTION ${ident(options.schema)}.${ident(names.function)}()`;
  const table = qualified(member.table);
  const create = missing.map((name) =>
    name === names.row
      ? `CREATE TRIGGER ${ident(name)} BEFORE INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW ${call}`
      : `CREATE TRIGGER ${ident(name)} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${table} FOR EACH STATEMENT ${call}`,
  );
  return [...create, switchSql(member.table, missing, options.enabled)].join('; ');
}

/** Turns guards of one table on (for every session, whatever its replication role) or off. */
export function switchSql(table: TableName, names: readonly string[], enabled: boolean): string {
  const verb = enabled ? 'ENABLE ALWAYS TRIGGER' : 'DISABLE TRIGGER';
  return `ALTER TABLE ONLY ${qualified(table)} ${names.map((name) => `${verb} ${ident(name)}`).join(', ')}`;
}

/** Guards by table. */
export function byTable(guards: readonly Guard[]): ReadonlyMap<string, readonly Guard[]> {
  const map = new Map<string, Guard[]>();
  for (const guard of guards) {
    const list = map.get(guard.oid);
    if (list === undefined) map.set(guard.oid, [guard]);
    else list.push(guard);
  }
  return map;
}
