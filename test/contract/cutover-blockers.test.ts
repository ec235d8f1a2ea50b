import { expect, test } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/core/clock.ts';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { SILENT } from '../../src/core/log.ts';
import { fenceStep } from '../../src/cutover/fence-step.ts';
import type { CutoverContext } from '../../src/cutover/context.ts';
import { engine } from '../../src/engines/postgres/index.ts';
import { createDatabase } from '../support/databases.ts';

test.each([
  { killBlockersAfterMs: 300, ends: true },
  { killBlockersAfterMs: null, ends: false },
])(
  'F82: a session that holds the fence up (kill_blockers_after $killBlockersAfterMs)',
  async ({ killBlockersAfterMs, ends }) => {
    await using blue = await createDatabase(16);
    await blue.query('CREATE TABLE orders (id int PRIMARY KEY)');
    const parsed = engine.parseConfig({ url: blue.url });
    if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
    await using session = await engine.connect(parsed.config, {
      migration: 'blockers',
      side: 'blue',
      stateSchema: 'verdigris',
      log: SILENT,
      failpoints: NO_FAILPOINTS,
    });
    const fromFence = session.fence([{ schema: 'public', name: 'orders' }]);
    await fromFence.prepare();
    const holder = await blue.connect();
    holder.on('error', () => undefined);
    await holder.query('BEGIN');
    await holder.query('INSERT INTO orders VALUES (1)');

    const settings = { killBlockersAfterMs, fenceTimeoutMs: 1_500 };
    const context = { fromFence, clock: SYSTEM_CLOCK, epoch: 1, settings } as unknown as CutoverContext;
    const step = fenceStep(context, { barrier: null });
    const signal = new AbortController().signal;
    if (ends) {
      expect(await step.run(signal)).toMatch(/ended 1 sessions that held it up/);
      await expect(holder.query('COMMIT')).rejects.toThrow();
      expect(await fromFence.state()).toEqual({ state: 'raised', epoch: 1 });
      expect(await blue.query('SELECT id FROM orders')).toEqual([]);
    } else {
      await expect(step.run(signal)).rejects.toMatchObject({ code: 'CUTOVER_UNDONE' });
      expect((await fromFence.state()).state).toBe('open');
      await holder.query('COMMIT');
      expect(await blue.query('SELECT id FROM orders')).toEqual([{ id: 1 }]);
    }
  },
);
