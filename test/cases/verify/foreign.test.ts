import { expect, test } from 'vitest';
import { HoldPoints, type Run } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';
import { churn, LOOKS, shop } from './shop.ts';

/** The mapping of this shop has no way back. */
const settings = (cutover = ''): string =>
  `copy: { workers: 2, chunk: { max_rows: 500 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }\ngates: { stable_for: 200ms, max_commit_lag: 10s }\ncutover: { reverse_replication: { enabled: false }${cutover} }\n`;

const gate = async (run: Run, name = 'foreign-writes') =>
  (await run.engine.status()).gates.find((one) => one.name === name);

const opens = (run: Run, name = 'foreign-writes') =>
  waitFor(async () => (await gate(run, name))?.ok, { what: `the gate ${name} to open` });
const shuts = (run: Run, name = 'foreign-writes') =>
  waitFor(async () => (await gate(run, name))?.ok === false, { what: `the gate ${name} to shut` });

const switched = async (run: Run): ReturnType<Run['engine']['cutover']> => {
  const { hash } = await run.engine.plan();
  return run.engine.cutover({ planHash: hash, confirm: run.name });
};

/** Writes to green as somebody who passes the guards: with the applier's role and setting. */
async function foreign(run: Run, ...sql: string[]): Promise<void> {
  const client = await run.green.connect();
  await client.query(`SET verdigris.applier = '${run.name}'`);
  await client.query(`BEGIN; ${sql.join('; ')}; COMMIT`);
  await client.end();
}

const changes = (run: Run) =>
  run.rows(
    'green',
    `SELECT sequence, table_name, op, before, after FROM verdigris.foreign_change ORDER BY ordinal`,
  );

test('a write on green that is not ours shuts the gate under its table, position and time, its images are kept, and a clean verification opens it again', async () => {
  await using run = await shop({ settings: settings() });
  await run.start();
  const migration = await run.engine.migration();
  const writers = churn(run, 4);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run);
  await opens(run, 'verified');

  await foreign(
    run,
    `UPDATE shop.tag SET n = -1 WHERE name = 'Tag-7'`,
    `DELETE FROM shop.account WHERE id = 3`,
    `INSERT INTO shop.log VALUES (-5, 'not ours')`,
  );
  await shuts(run);
  expect(await gate(run)).toMatchObject({ observed: '1 transactions' });
  expect((await gate(run))?.reason).toMatch(/shop\.account \(1\)/);
  await shuts(run, 'verified');
  await expect(switched(run)).rejects.toMatchObject({ code: 'CUTOVER_GATE' });
  const kept = await changes(run);
  expect(kept.map(([sequence, table, op]) => [sequence, table, op])).toEqual([
    ['1', 'shop.tag', 'update'],
    ['1', 'shop.account', 'delete'],
    ['1', 'shop.log', 'insert'],
  ]);
  expect(JSON.parse(kept[0]?.[4] ?? '')).toEqual({ name: 'Tag-7', n: '-1' });
  expect(JSON.parse(kept[2]?.[4] ?? '')).toEqual({ n: '-5', what: 'not ours' });
  const found = (await run.engine.events(0, 500)).filter(({ event }) => event === 'green.foreign-write');
  expect(found.map(({ detail }) => detail)).toMatchObject([
    { sequence: 1, rows: { 'shop.tag': 1, 'shop.account': 1, 'shop.log': 1 } },
  ]);
  expect(JSON.stringify(found)).not.toContain('not ours');

  // The row without a key cannot be repaired; whoever wrote it takes it back, which is a foreign write too.
  await foreign(run, `DELETE FROM shop.log WHERE n = -5`);
  await waitFor(async () => (await gate(run))?.observed === '2 transactions', { what: 'the second one' });
  expect(await migration.verify({ mode: 'full' })).toMatchObject({ ok: false });
  expect(await gate(run)).toMatchObject({ ok: false });
  expect(await migration.repair({})).toMatchObject({ repaired: 2, report: { ok: true } });
  await opens(run);
  await opens(run, 'verified');
  await writers.stop();
  expect(await switched(run)).toMatchObject({ outcome: 'switched' });
}, 120_000);

test('a write on green while writers already wait undoes the switch', async () => {
  await using run = await shop({ settings: settings() });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run);
  const reached = points.hold('cutover.step.pause.before');
  const report = switched(run);
  await reached;
  await foreign(run, `UPDATE shop.tag SET n = -1 WHERE name = 'Tag-7'`);
  points.release('cutover.step.pause.before');
  const { outcome, steps, error } = await report;
  expect(outcome).toBe('undone');
  expect(steps.find((step) => step.outcome === 'failed')?.name).toBe('recheck');
  expect(error?.message).toContain('not ours');
  expect(await gate(run)).toMatchObject({ ok: false, observed: '1 transactions' });
}, 120_000);

test('what was written on green while no engine ran is found at the next start, once, and a log that was lost meanwhile is read anew', async () => {
  await using run = await shop({ settings: settings() });
  await run.start();
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run);
  await run.stop();
  await foreign(run, `UPDATE shop.tag SET n = -1 WHERE name = 'Tag-7'`);
  for (const times of ['first', 'second']) {
    await run.start();
    await shuts(run);
    await waitFor(async () => (await gate(run))?.observed === '1 transactions', {
      what: `the transaction, after the ${times} start`,
    });
    await run.stop();
  }
  expect(await changes(run)).toHaveLength(1);

  await run.green.query(
    `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`,
  );
  await foreign(run, `UPDATE shop.tag SET n = -2 WHERE name = 'Tag-8'`);
  await run.start();
  const migration = await run.engine.migration();
  await waitFor(async () => (await gate(run))?.reason.includes('not read') === false, {
    what: 'the log to be read again',
  });
  const { mismatches } = await migration.verify({ mode: 'full' });
  expect(new Set(mismatches.map(({ key }) => key['name']))).toEqual(new Set(['Tag-7', 'Tag-8']));
  expect(mismatches).toHaveLength(2);
  expect(await migration.repair({})).toMatchObject({ repaired: 2, report: { ok: true } });
  await opens(run);
}, 120_000);

test('a log of green that is lost while the engine runs takes the clean result back', async () => {
  await using run = await shop({ settings: settings() });
  await run.start();
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run);
  await opens(run, 'verified');
  const slot = `FROM pg_replication_slots WHERE database = current_database()`;
  await waitFor(
    async () => {
      await run.green.query(`SELECT pg_terminate_backend(active_pid) ${slot} AND active`);
      const dropped = await run.green
        .query(`SELECT pg_drop_replication_slot(slot_name) ${slot}`)
        .catch(() => []);
      return dropped.length > 0;
    },
    { what: 'the slot to go', everyMs: 5 },
  );
  await shuts(run, 'verified');
  expect((await run.engine.status()).verify.detail).toContain('not ours');
  await opens(run);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run, 'verified');
}, 120_000);

test('a foreign transaction larger than a batch is one transaction, with all its rows', async () => {
  await using run = await shop({
    settings: settings().replace(
      'apply: { heartbeat: 200ms }',
      'apply: { heartbeat: 200ms, max_transaction: 64KiB }',
    ),
  });
  await run.start();
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await opens(run);
  await foreign(
    run,
    `INSERT INTO shop.log SELECT 7, repeat('x', 500) FROM generate_series(1, 2000)`,
    `UPDATE shop.tag SET n = -1 WHERE name = 'Tag-7'`,
  );
  await shuts(run);
  await waitFor(async () => (await changes(run)).length >= 2001, { what: 'all images' });
  expect(await gate(run)).toMatchObject({ observed: '1 transactions' });
  expect((await gate(run))?.reason).toMatch(/shop\.log \(2000\), shop\.tag \(1\)/);
  expect(await run.rows('green', 'SELECT sequence, complete FROM verdigris.foreign_transaction')).toEqual([
    ['1', 't'],
  ]);
}, 120_000);
