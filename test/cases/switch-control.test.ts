import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

/** Who may switch and when, and what is left of a rehearsal: on real servers, through the library. */

const SMALL = {
  blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t SELECT g, g FROM generate_series(1, 50) g;',
  green: 'CREATE TABLE public.t (id int PRIMARY KEY, v int);',
  tables: '- from: public.t',
};
const READY = 'verify: { after_copy: full }';
const gates = (more = ''): string => `gates: { stable_for: 100ms${more === '' ? '' : `, ${more}`} }`;

async function planOf(run: Run): Promise<string> {
  return (await run.engine.status()).planHash;
}

async function gate(run: Run, name: string) {
  return (await run.engine.status()).gates.find((one) => one.name === name);
}

async function ready(run: Run): Promise<void> {
  await waitFor(async () => (await run.engine.status()).gates.ready, { what: 'every gate to be open' });
}

/** Everything that stands on a side beside the operator's tables. */
async function objects(run: Run, side: 'blue' | 'green'): Promise<string[]> {
  const rows = await run[side].query<{ name: string }>(
    `SELECT 'table ' || c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'v', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
     UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
     UNION ALL SELECT 'function ' || oid::regproc::text FROM pg_proc WHERE pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
     UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger
     UNION ALL SELECT 'publication ' || pubname FROM pg_publication
     UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
     ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

describe('rehearse', () => {
  test('a switch there and back on rows of our own leaves nothing, opens its gate, and a dry run shows what it measured', async () => {
    await using run = await Run.create({ ...SMALL, settings: `${READY}\n${gates('rollback_rehearsed_within: 1h')}` });
    await run.start();
    expect(await gate(run, 'rehearsed')).toMatchObject({ ok: false, observed: 'never' });
    const before = { blue: await objects(run, 'blue'), green: await objects(run, 'green') };
    const rehearsal = await run.engine.rehearse();
    expect(rehearsal).toMatchObject({ ok: true, error: null, rows: 100 });
    const names = rehearsal.acts.map(({ name }) => name);
    for (const name of ['fence', 'prove', 'drain', 'reverse', 'route', 'seal', 'open', 'back.drain', 'compare'])
      expect(names).toContain(name);
    expect(rehearsal.writePauseMs).toBeGreaterThan(0);
    expect({ blue: await objects(run, 'blue'), green: await objects(run, 'green') }).toEqual(before);
    expect(await gate(run, 'rehearsed')).toMatchObject({ ok: true });
    const { rehearsal: shown } = await run.engine.status();
    expect(shown).toMatchObject({ ok: true, rows: 100 });
    const dry = await run.engine.cutover({ planHash: await planOf(run), confirm: run.name, dryRun: true });
    expect(dry.rehearsed).toMatchObject({ writePauseMs: rehearsal.writePauseMs });
    expect(dry.steps.find(({ name }) => name === 'fence')?.rehearsedMs).toBeGreaterThan(0);
    // The run itself was not touched.
    await run.blue.query('UPDATE public.t SET v = v + 1');
    await run.settled();
    await run.compare('SELECT id, v FROM public.t ORDER BY id');
  }, 60_000);
});
void sleep;
