import { expect, test } from 'vitest';
import { HoldPoints, type Run } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';
import { breakGreen, churn, LOOKS, shop } from './shop.ts';

/** The mapping of this shop has no way back. */
const settings = (cutover = ''): string =>
  `copy: { workers: 2, chunk: { max_rows: 500 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }\ngates: { stable_for: 200ms, max_commit_lag: 10s }\ncutover: { reverse_replication: { enabled: false }${cutover} }\n`;

/** What counts for the switch, without what has nothing to do with verification. */
const switched = async (run: Run): ReturnType<Run['engine']['cutover']> => {
  const { hash } = await run.engine.plan();
  return run.engine.cutover({ planHash: hash, confirm: run.name });
};

const gate = async (run: Run, name: string) =>
  (await run.engine.status()).gates.find((one) => one.name === name);

test('each row that changed since the clean round is compared before the fence and under it: a fault in one of them keeps blue serving', async () => {
  await using run = await shop({ settings: settings() });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  expect(await gate(run, 'verified')).toMatchObject({ ok: false });
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  const writers = churn(run, 4);
  await waitFor(async () => (await run.engine.status()).apply.changes > 300, {
    what: 'some changes after the clean round',
  });
  await writers.stop();
  const migration = await run.engine.migration();
  const damage = async (): Promise<void> => {
    await run.blue.query('UPDATE public.stock SET amount = amount + 1 WHERE product_id = 101');
    await run.settled();
    await breakGreen(run, ['UPDATE shop.product SET amount = amount - 1 WHERE id = 101']);
  };
  await damage();
  await waitFor(async () => (await gate(run, 'verified'))?.ok, { what: 'the gate to open' });
  await expect(switched(run)).rejects.toMatchObject({ code: 'CUTOVER_GATE' });
  expect(await migration.verification()).toMatchObject({
    ok: false,
    mismatches: [{ key: { id: '101' }, columns: ['amount'] }],
  });
  expect(await gate(run, 'differences')).toMatchObject({ ok: false, observed: '1' });
  expect(await migration.repair({})).toMatchObject({ repaired: 1, report: { ok: true } });
  expect(await gate(run, 'differences')).toMatchObject({ ok: true });

  const reached = points.hold('cutover.step.pause.before');
  const report = switched(run);
  await reached;
  await damage();
  points.release('cutover.step.pause.before');
  expect(await report).toMatchObject({ outcome: 'undone' });
  expect((await report).steps.find(({ outcome }) => outcome === 'failed')?.name).toBe('recheck');

  expect(await migration.verify({ mode: 'recent' })).toMatchObject({
    ok: false,
    mismatches: [{ key: { id: '101' }, columns: ['amount'] }],
  });
  expect(await migration.repair({})).toMatchObject({ repaired: 1, report: { ok: true } });
  expect(await switched(run)).toMatchObject({ outcome: 'switched' });
}, 120_000);

test('more changed rows than may be compared while writers wait undo the switch, with their number', async () => {
  await using run = await shop({ settings: settings(', max_recheck_keys: 50') });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  const reached = points.hold('cutover.step.pause.before');
  const report = switched(run);
  await reached;
  await run.blue.query('UPDATE public.account SET name = name WHERE id <= 51');
  points.release('cutover.step.pause.before');
  expect(await report).toMatchObject({ outcome: 'undone', error: { code: 'CUTOVER_UNDONE' } });
  expect((await report).error?.message).toContain('51 keys');
}, 120_000);

test('a write past the guards of green by somebody else shuts the gate, also when the guards are on again', async () => {
  await using run = await shop({ settings: settings() });
  await run.start();
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await waitFor(async () => (await gate(run, 'verified'))?.ok, { what: 'the gate to open' });
  await expect(run.green.query('UPDATE shop.tag SET n = 0')).rejects.toMatchObject({ code: 'VG001' });
  const [guard] = await run.green.query<{ name: string }>(
    `SELECT tgname AS name FROM pg_trigger WHERE tgrelid = 'shop.tag'::regclass AND tgname LIKE '%guard_stmt'`,
  );
  await run.green.query(`ALTER TABLE shop.tag DISABLE TRIGGER "${guard?.name}"`);
  await run.green.query(`UPDATE shop.tag SET n = -1 WHERE name = 'Tag-7'`);
  await run.green.query(`ALTER TABLE shop.tag ENABLE ALWAYS TRIGGER "${guard?.name}"`);
  await waitFor(async () => (await gate(run, 'verified'))?.ok === false, { what: 'the gate to shut' });
  expect((await run.engine.status()).verify.detail).toContain('guards');
  expect((await run.engine.events(0, 500)).map(({ event }) => event)).toContain('green.unguarded');
  const migration = await run.engine.migration();
  expect(await migration.verify({ mode: 'full' })).toMatchObject({
    mismatches: [{ table: 'shop.tag', key: { name: 'Tag-7' } }],
  });
  expect(await migration.repair({})).toMatchObject({ repaired: 1, report: { ok: true } });
}, 120_000);
