import { expect, test } from 'vitest';
import { Rig } from './deadman-rig.ts';

test('frozen while the fence holds its locks: clients write again, and the thawed engine ends undone', async () => {
  await using rig = await Rig.create();
  // The failpoint is also reached on green during the preparation: only the second start has it.
  await (await rig.engine()).kill('SIGKILL');
  const engine = await rig.engine('fence.raise.locked:stop');
  const asked = rig.cutover();
  await rig.deadmanActs();
  expect(await rig.writers.firstAfter(performance.now())).toBeLessThan(2_000);
  process.kill(engine.pid, 'SIGCONT');
  await asked;
  await rig.writers.more();
  expect(rig.writers.failures).toEqual([]);
  await rig.deadmanDone();
  await engine.kill('SIGKILL');
}, 120_000);

test('killed while the fence waits for a lock: clients write again within two seconds', async () => {
  await using rig = await Rig.create();
  const engine = await rig.engine();
  const holder = await rig.blue.connect();
  await holder.query('BEGIN');
  await holder.query(`INSERT INTO orders VALUES (-1, 'x')`);
  const asked = rig.cutover();
  await expect
    .poll(
      async () =>
        (await rig.blue.query(`SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'`))
          .length,
      { timeout: 20_000 },
    )
    .toBe(1);
  const killed = performance.now();
  await engine.kill('SIGKILL');
  expect(await rig.writers.firstAfter(killed)).toBeLessThan(2_000);
  await holder.query('ROLLBACK');
  await asked;
  await rig.writers.more();
  expect(rig.writers.failures).toEqual([]);
}, 120_000);
