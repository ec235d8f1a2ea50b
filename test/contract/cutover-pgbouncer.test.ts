import pg from 'pg';
import { expect, test } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/core/clock.ts';
import { VerdigrisError } from '../../src/core/errors.ts';
import { NO_FAILPOINTS, type Failpoints } from '../../src/core/failpoint.ts';
import { GATES } from '../../src/core/gate.ts';
import { SILENT } from '../../src/core/log.ts';
import { cutover, recover } from '../../src/cutover/recover.ts';
import type { CutoverContext } from '../../src/cutover/context.ts';
import { engine } from '../../src/engines/postgres/index.ts';
import { proxy } from '../../src/proxies/pgbouncer/index.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { waitFor } from '../support/wait.ts';

const live = (): AbortSignal => new AbortController().signal;
const table = { schema: 'public', name: 'orders' };

async function session(database: TestDatabase, side: 'blue' | 'green') {
  const parsed = engine.parseConfig({ url: database.url });
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return engine.connect(parsed.config, {
    migration: 'switch',
    side,
    stateSchema: 'verdigris',
    log: SILENT,
    failpoints: NO_FAILPOINTS,
  });
}

/**
 * Two real servers with their real fences behind two real PgBouncers. What has no part here is the stream: green is empty, and
 * the drain has nothing to wait for.
 */
test('two PgBouncers and two fences: a failing switch is undone, a dead one recovered, a good one ends on green', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  for (const database of [blue, green]) await database.query('CREATE TABLE orders (id int PRIMARY KEY)');
  const place = (database: TestDatabase) => ({
    host: '127.0.0.1',
    port: database.server.port,
    dbname: database.name,
  });
  await using first = await startPgBouncer({ databases: { crm: place(blue) } });
  await using second = await startPgBouncer({ databases: { crm: place(blue) } });
  await using blueSession = await session(blue, 'blue');
  await using greenSession = await session(green, 'green');
  const [fromFence, toFence] = [blueSession.fence([table]), greenSession.fence([table])];
  for (const fence of [fromFence, toFence]) await fence.prepare();
  await toFence.raise(0, 5_000);
  await using proxies = new AsyncDisposableStack();
  const adapters = [first, second].map((bouncer) => {
    const parsed = proxy.parseConfig({
      admin_url: bouncer.adminUrl,
      ini: bouncer.databasesIniPath,
      databases: ['crm'],
      blue: place(blue),
      green: place(green),
    });
    if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
    return proxies.use(proxy.create(parsed.config, { log: SILENT, failpoints: NO_FAILPOINTS }));
  });
  let epoch = 0;
  const context = (failpoints: Failpoints = NO_FAILPOINTS): CutoverContext => ({
    migration: 'switch',
    epoch: ++epoch,
    from: 'blue',
    to: 'green',
    wayBack: null,
    fromFence,
    toFence,
    proxies: adapters,
    pipeline: { drain: async (barrier) => barrier },
    counters: async () => [],
    recheck: async () => ({ keys: 0, differences: 0 }),
    gates: async () => GATES.map((name) => ({ name, ok: true, observed: '', limit: '', reason: '' })),
    overrides: [],
    settings: {
      maxWritePauseMs: 20_000,
      fenceTimeoutMs: 5_000,
      killBlockersAfterMs: null,
      maxRecheckKeys: 0,
      smoke: [],
    },
    journal: { note: async () => undefined },
    smoke: async () => undefined,
    onSwitched: async () => undefined,
    holdsLease: async () => true,
    log: SILENT,
    clock: SYSTEM_CLOCK,
    failpoints,
  });

  // A client on each proxy writes all the time; which side took each write is found afterwards.
  let on = true;
  const failures: string[] = [];
  let next = 0;
  const acknowledged = new Set<number>();
  const writers = [first, second].map(async (bouncer) => {
    const client = new pg.Client(bouncer.url('crm'));
    await client.connect();
    while (on) {
      const id = next++;
      try {
        await client.query({ name: 'write', text: 'INSERT INTO orders VALUES ($1)', values: [id] });
        acknowledged.add(id);
      } catch (error) {
        failures.push(String(error));
      }
    }
    await client.end();
  });

  const written = async (): Promise<void> => {
    const before = acknowledged.size;
    await waitFor(() => acknowledged.size >= before + 10, { what: 'clients to write' });
  };

  await written();
  const failing: Failpoints = {
    hit: (name) => {
      if (name === 'cutover.step.seal.before') throw new VerdigrisError('INTERNAL', 'failpoint');
    },
  };
  expect(await cutover(context(failing), live())).toMatchObject({ outcome: 'undone' });
  expect((await fromFence.state()).state).toBe('open');
  await written();

  // Dead right before the seal: nothing of that engine goes on. Another one recovers.
  const died = Promise.withResolvers<void>();
  const dying: Failpoints = {
    hit: (name) => {
      if (name !== 'cutover.step.seal.before') return undefined;
      died.resolve();
      return new Promise<void>(() => undefined);
    },
  };
  void cutover(context(dying), live());
  await died.promise;
  expect((await fromFence.state()).state).toBe('raised');
  expect(await recover(context())).toMatchObject({ outcome: 'undone' });

  const outcome = await cutover(context(), live());
  expect(outcome).toMatchObject({ outcome: 'switched', error: null });
  for (const adapter of adapters)
    expect(await adapter.observe(live())).toEqual({ to: 'green', paused: false });
  expect((await fromFence.state()).state).toBe('sealed');
  expect((await toFence.state()).state).toBe('open');
  expect(await recover(context())).toMatchObject({ outcome: 'switched' });
  await written();
  on = false;
  await Promise.all(writers);
  expect(failures).toEqual([]);
  const taken = async (database: TestDatabase) =>
    (await database.query<{ id: number }>('SELECT id FROM orders')).map((row) => row.id);
  const [onBlue, onGreen] = [await taken(blue), await taken(green)];
  expect([...onBlue, ...onGreen].toSorted((left, right) => left - right)).toEqual(
    [...acknowledged].toSorted((left, right) => left - right),
  );
  for (const side of [onBlue, onGreen]) expect(side.length).toBeGreaterThan(0);
  // A client that knows the address of blue gets nothing past the fence either.
  await expect(blue.query('INSERT INTO orders VALUES (-1)')).rejects.toThrow();
});
