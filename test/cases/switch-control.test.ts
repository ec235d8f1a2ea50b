import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../src/core/errors.ts';
import { GATES } from '../../src/core/gate.ts';
import { Workplace } from '../support/engine-process.ts';
import { HoldPoints, Run } from '../support/run.ts';
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

/** Every gate is open but these. */
async function readyBut(run: Run, ...names: string[]): Promise<void> {
  await waitFor(
    async () => {
      const { gates: all } = await run.engine.status();
      const shut = all.filter(({ ok, name }) => !ok && !names.includes(name));
      return all.length > 0 && shut.length === 0;
    },
    { what: `every gate but ${names.join(', ') || 'none'} to be open`, timeoutMs: 60_000 },
  );
}

const requestIs = (run: Run, state: string) =>
  waitFor(
    async () => {
      const { request } = await run.engine.status();
      return request?.state === state ? request : null;
    },
    { what: `the request to be ${state}`, timeoutMs: 60_000 },
  );

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
    await using run = await Run.create({
      ...SMALL,
      settings: `${READY}\n${gates('rollback_rehearsed_within: 1h')}`,
    });
    await run.start();
    expect(await gate(run, 'rehearsed')).toMatchObject({ ok: false, observed: 'never' });
    await readyBut(run, 'rehearsed');
    const before = { blue: await objects(run, 'blue'), green: await objects(run, 'green') };
    const rehearsal = await run.engine.rehearse();
    expect(rehearsal).toMatchObject({ ok: true, error: null, rows: 100 });
    const names = rehearsal.acts.map(({ name }) => name);
    for (const name of [
      'fence',
      'prove',
      'drain',
      'reverse',
      'route',
      'seal',
      'open',
      'back.drain',
      'compare',
    ])
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
  }, 120_000);
});

describe('a rehearsal that does not end well', () => {
  test('an engine that is killed in the middle of one: the next start removes what it left', async () => {
    await using run = await Run.create({ ...SMALL, settings: `${READY}\n${gates()}` });
    await run.start();
    await readyBut(run);
    await run.stop();
    const before = { blue: await objects(run, 'blue'), green: await objects(run, 'green') };
    const workplace = new Workplace(run.dir);
    const first = workplace.start({ failpoint: 'rehearsal.back.drain:exit' });
    await first.until('it replicates', ({ phase }) => phase === 'replicating');
    expect(await workplace.run('rehearse')).toMatchObject({ code: 1 });
    await first.ended;
    const left = await objects(run, 'green');
    expect(left.filter((name) => /canary|rehearsal/.test(name)).length).toBeGreaterThan(2);
    expect(left.some((name) => name.startsWith('slot '))).toBe(true);
    await run.start({ takeover: true });
    expect((await run.engine.events(0, 1_000)).map(({ event }) => event)).toContain('rehearsal.cleared');
    expect({ blue: await objects(run, 'blue'), green: await objects(run, 'green') }).toEqual(before);
    // And it can be held after all.
    expect(await run.engine.rehearse()).toMatchObject({ ok: true });
  }, 120_000);

  test('one whose act fails says which and why, shuts its gate, and leaves nothing', async () => {
    await using run = await Run.create({
      ...SMALL,
      settings: `${READY}\n${gates('rollback_rehearsed_within: 1h')}`,
    });
    const fails = {
      hit: (name: string) => {
        if (name === 'rehearsal.back.drain') throw new VerdigrisError('SOURCE_LOST', 'cut');
      },
    };
    await run.start({ failpoints: fails });
    await readyBut(run, 'rehearsed');
    const before = { blue: await objects(run, 'blue'), green: await objects(run, 'green') };
    // A subscriber of all tables would stop at ours.
    await run.blue.query('CREATE PUBLICATION everything FOR ALL TABLES');
    await run.blue.query(
      `SELECT pg_create_logical_replication_slot('other_' || md5(current_database()), 'pgoutput')`,
    );
    expect(await run.engine.rehearse()).toMatchObject({
      ok: false,
      cleared: true,
      error: { code: 'PREFLIGHT_FAILED', message: expect.stringContaining('everything') as unknown },
    });
    await run.blue.query('DROP PUBLICATION everything');
    await run.blue.query(`SELECT pg_drop_replication_slot('other_' || md5(current_database()))`);
    expect(await run.engine.rehearse()).toMatchObject({
      ok: false,
      writePauseMs: null,
      error: { code: 'SOURCE_LOST' },
    });
    expect(await gate(run, 'rehearsed')).toMatchObject({ ok: false, reason: 'it failed: SOURCE_LOST' });
    expect({ blue: await objects(run, 'blue'), green: await objects(run, 'green') }).toEqual(before);
  }, 120_000);
});

describe('a cutover that waits', () => {
  test('for an approval, over a restart of the engine; then it switches by itself and the report holds all of it', async () => {
    await using run = await Run.create({
      ...SMALL,
      settings: `${READY}\n${gates('approvals: { count: 1, roles: [dba] }')}`,
    });
    await run.start();
    await readyBut(run, 'approvals');
    const planHash = await planOf(run);
    const ask = { planHash, confirm: run.name, by: 'ops' };
    await expect(run.engine.cutover(ask)).rejects.toMatchObject({
      code: 'CUTOVER_GATE',
      message: expect.stringContaining(
        'approvals: 0, limit 1 people, roles dba (0 of 1 approvals; needs role dba)',
      ) as unknown,
    });
    expect((await run.engine.status()).request).toBe(null);
    const { id } = await run.engine.schedule({ waitMs: 300_000 }, ask);
    // Who asked does not count.
    await run.engine.approve({ by: 'ops', role: 'dba', planHash });
    expect(await gate(run, 'approvals')).toMatchObject({ ok: false });

    await run.stop();
    await run.start();
    await readyBut(run, 'approvals');
    expect(await run.engine.status()).toMatchObject({
      phase: 'replicating',
      request: { id, state: 'waiting', by: 'ops' },
      next: { command: 'verdigris cutover cancel' },
    });
    await run.engine.approve({ by: 'ada', role: 'dba', note: 'go', planHash });
    expect(await requestIs(run, 'done')).toMatchObject({ id, outcome: 'switched' });
    expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
    await expect(run.blue.query('INSERT INTO public.t VALUES (1000, 1)')).rejects.toThrow(/fenced/);
    await run.green.query('INSERT INTO public.t VALUES (1000, 1)');

    const report = await run.engine.report();
    expect(report).toMatchObject({
      planHash,
      activeSide: 'green',
      approvals: [{ by: 'ops' }, { by: 'ada', note: 'go', void: false }],
      verification: { state: 'pass', differences: 0 },
      attempts: [{ request: id, by: 'ops', outcome: 'switched', overrides: [], error: null }],
    });
    const [attempt] = report.attempts;
    expect(attempt?.certificate).toMatchObject({
      barrier: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) as unknown,
      checkpoint: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) as unknown,
      transactions: expect.any(Number) as unknown,
      blockers: [],
    });
    expect(attempt?.gates.map(({ name }) => name)).toEqual([...GATES]);
    expect(attempt?.steps.map(({ step, outcome }) => [step, outcome])).toContainEqual(['seal', 'ok']);
    expect(attempt?.writePauseMs).toBeGreaterThan(0);
    expect(report.phases.map(({ phase }) => phase)).toEqual(
      expect.arrayContaining(['copying', 'cutting_over', 'reversing']),
    );
  }, 120_000);

  test('a window that is shut refuses with its next opening, and an override by name and reason stands in the report', async () => {
    await using run = await Run.create({
      ...SMALL,
      settings: `${READY}\n${gates()}\ncutover: { windows: [{ name: leap, cron: '0 2 29 2 *', duration: 1h, timezone: Europe/Berlin }] }`,
    });
    await run.start();
    await readyBut(run, 'window');
    const ask = { planHash: await planOf(run), confirm: run.name };
    expect((await run.engine.status()).window).toMatchObject({ name: 'leap', open: false });
    await expect(run.engine.cutover(ask)).rejects.toMatchObject({
      code: 'CUTOVER_GATE',
      message: expect.stringMatching(
        /window: closed, limit in a window \(next: leap \S+ 29 Feb 02:00-03:00 Europe\/Berlin/,
      ) as unknown,
    });
    await expect(
      run.engine.cutover({ ...ask, overrides: [{ gate: 'window', reason: ' ' }] }),
    ).rejects.toMatchObject({
      code: 'USAGE',
    });
    await expect(
      run.engine.schedule({ at: new Date(Date.now() + 60_000).toISOString() }, ask),
    ).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('No window is open') as unknown,
    });
    const done = await run.engine.cutover({
      ...ask,
      overrides: [{ gate: 'window', reason: 'agreed with the shop' }],
    });
    expect(done).toMatchObject({ outcome: 'switched' });
    expect((await run.engine.report()).attempts).toMatchObject([
      { outcome: 'switched', overrides: [{ gate: 'window', reason: 'agreed with the shop' }] },
    ]);
  }, 120_000);

  test('cancelled in the middle, before the seal: undone, who served serves, and the next one goes through; a rollback too', async () => {
    await using run = await Run.create({ ...SMALL, settings: `${READY}\n${gates()}` });
    const points = new HoldPoints();
    await run.start({ failpoints: points });
    await readyBut(run);
    const ask = { planHash: await planOf(run), confirm: run.name };
    const cancelled = async (act: 'cutover' | 'rollback', attempt: number): Promise<void> => {
      const reached = points.hold('cutover.step.drain.before');
      const turning = run.engine[act](ask);
      await reached;
      const cancelling = run.engine.cancel({ by: 'ada', reason: 'wrong day' });
      const asked = async (): Promise<boolean> =>
        (await run.engine.events(0, 1_000)).filter(({ event }) => event === 'cutover.cancel').length ===
        attempt;
      await waitFor(asked, { what: 'the cancel to be in the journal' });
      points.release('cutover.step.drain.before');
      expect(await turning).toMatchObject({ outcome: 'undone' });
      const to = act === 'cutover' ? 'green' : 'blue';
      expect(await cancelling).toMatchObject({ to, state: 'done', outcome: 'undone' });
    };

    await cancelled('cutover', 1);
    expect(await run.engine.status()).toMatchObject({ phase: 'replicating', activeSide: 'blue' });
    await run.blue.query('INSERT INTO public.t VALUES (1000, 1)');
    await run.settled();
    await readyBut(run);
    expect(await run.engine.cutover(ask)).toMatchObject({ outcome: 'switched' });
    await run.compare('SELECT id, v FROM public.t ORDER BY id');

    await readyBut(run);
    await cancelled('rollback', 2);
    expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
    await run.green.query('INSERT INTO public.t VALUES (1001, 1)');
    await expect(run.blue.query('INSERT INTO public.t VALUES (1002, 1)')).rejects.toThrow(/fenced/);
    await readyBut(run);
    expect(await run.engine.rollback(ask)).toMatchObject({ outcome: 'switched' });
    await run.blue.query('INSERT INTO public.t VALUES (1002, 1)');
  }, 120_000);
});
