import type pg from 'pg';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { begin } from './fence-session.ts';
import { byTable, family, FENCED, guardNames, readGuards, wantedGuards, type Member } from './guards.ts';
import { literal, qualified } from './sql.ts';

/** SQLSTATE with which the probe reports a table that is not held. */
const LEAK = 'VG002';
const PROBE_MS = 10_000;

/**
 * From a session without our applier's setting: every guard is there and always enabled, and a write of no row fails on
 * every table and part of one.
 * @throws VerdigrisError CUTOVER_FENCE_LEAKS
 */
export async function proveFence(
  client: pg.Client,
  fence: { readonly env: SessionEnv; readonly tables: readonly TableName[]; readonly rowGuards: boolean },
): Promise<void> {
  const { migration, stateSchema } = fence.env;
  const names = guardNames(migration);
  const guards = byTable(await readGuards(client, stateSchema, migration));
  const members = await family(client, fence.tables);
  for (const member of members) {
    const enabled = new Map((guards.get(member.oid) ?? []).map((guard) => [guard.name, guard.enabled]));
    for (const name of wantedGuards(member, names, fence.rowGuards)) {
      const state = enabled.get(name);
      if (state === undefined) throw leak(member.table, `guard ${name} is missing`);
      if (state !== 'A') throw leak(member.table, `guard ${name} is not always enabled`);
    }
  }
  const rules = await ruled(client, members);
  const probed = members.filter((member) => !rules.has(member.oid));
  await begin(client, { limitMs: PROBE_MS, commit: 'on' });
  try {
    await client.query(probeSql(probed));
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    throw new VerdigrisError(
      'CUTOVER_FENCE_LEAKS',
      code === LEAK
        ? `The fence does not hold ${message}`
        : `The fence could not be proven (SQLSTATE ${code})`,
    );
  } finally {
    await client.query('ROLLBACK');
  }
}

/** Writes of no row, all in one round trip: clients wait for this. The first one that is not refused by us is raised as LEAK. */
function probeSql(members: readonly Member[]): string {
  const body = `
declare
  target text;
  passed boolean;
begin
  foreach target in array array[${members.map((member) => literal(qualified(member.table))).join(', ')}]::text[] loop
    begin
      passed := true;
      execute 'DELETE FROM ONLY ' || target || ' WHERE false';
    exception
      when sqlstate '${FENCED}' then passed := false;
      when others then raise exception using errcode = '${LEAK}', message = target || ' could not be proven (SQLSTATE ' || sqlstate || ')';
    end;
    if passed then raise exception using errcode = '${LEAK}', message = target || ': a write was let through'; end if;
  end loop;
end`;
  return `DO ${literal(body)}`;
}

/** Tables on which an INSTEAD rule answers a DELETE in the place of the table: there the enabled guard is the proof. */
async function ruled(client: pg.Client, members: readonly Member[]): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ oid: string }>(
    `SELECT DISTINCT ev_class::oid::text AS oid FROM pg_rewrite WHERE ev_class = ANY ($1::oid[]) AND ev_type = '4' AND is_instead`,
    [members.map((member) => member.oid)],
  );
  return new Set(rows.map((row) => row.oid));
}

const leak = (table: TableName, why: string): VerdigrisError =>
  new VerdigrisError('CUTOVER_FENCE_LEAKS', `The fence does not hold ${showTable(table)}: ${why}`, {
    context: { table: showTable(table) },
  });
