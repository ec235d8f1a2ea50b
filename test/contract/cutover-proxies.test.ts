import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect, test } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/core/clock.ts';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { GATES } from '../../src/core/gate.ts';
import { SILENT } from '../../src/core/log.ts';
import type { ProxyAdapter, ProxyFactory } from '../../src/core/proxy.ts';
import type { CutoverContext } from '../../src/cutover/context.ts';
import { cutover } from '../../src/cutover/recover.ts';
import { engine } from '../../src/engines/postgres/index.ts';
import { proxy as haproxyFactory } from '../../src/proxies/haproxy/index.ts';
import { proxy as pgbouncerFactory } from '../../src/proxies/pgbouncer/index.ts';
import { proxy as templateFactory } from '../../src/proxies/template/index.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { debianProgramOrReason } from '../support/debian.ts';
import { HAPROXY, startHaproxy } from '../support/haproxy.ts';
import { NGINX, startNginx } from '../support/nginx.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { waitFor } from '../support/wait.ts';

const live = (): AbortSignal => new AbortController().signal;
/** Between two attempts of a client to connect, as clients do: a refused one costs nothing and would fill a core. */
const BACK_OFF_MS = 20;
const table = { schema: 'public', name: 'orders' };
const [haproxyProgram, nginxProgram] = [
  await debianProgramOrReason(HAPROXY),
  await debianProgramOrReason(NGINX),
];

async function session(database: TestDatabase, side: 'blue' | 'green') {
  const parsed = engine.parseConfig({ url: database.url });
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  const of = { migration: 'switch', side, stateSchema: 'verdigris', log: SILENT, failpoints: NO_FAILPOINTS };
  return engine.connect(parsed.config, of);
}

function adapterOf(factory: ProxyFactory, input: unknown): ProxyAdapter {
  const parsed = factory.parseConfig(input);
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return factory.create(parsed.config, { log: SILENT, failpoints: NO_FAILPOINTS });
}

/** Writes all the time with ids of its own, connecting again when it must. */
class Writer {
  readonly acknowledged = new Set<number>();
  /** Nobody knows whether these were committed: the connection went away over them. */
  readonly unsure = new Set<number>();
  /** Connections and statements that failed, in words. */
  readonly failures: string[] = [];
  readonly #ended: Promise<void>;
  #on = true;

  constructor(url: string, firstId: number) {
    this.#ended = this.#run(url, firstId);
  }

  async #run(url: string, firstId: number): Promise<void> {
    let id = firstId;
    while (this.#on) {
      const client = new pg.Client(url);
      client.on('error', () => undefined);
      try {
        await client.connect();
        for (; this.#on; id++) {
          this.unsure.add(id);
          await client.query({ name: 'write', text: 'INSERT INTO orders VALUES ($1)', values: [id] });
          this.unsure.delete(id);
          this.acknowledged.add(id);
        }
      } catch (error) {
        this.failures.push(String(error));
        id++;
      }
      await client.end().catch(() => undefined);
      await sleep(BACK_OFF_MS);
    }
  }

  async written(): Promise<void> {
    const before = this.acknowledged.size;
    await waitFor(() => this.acknowledged.size >= before + 5, { what: 'a client to write' });
  }

  async stop(): Promise<void> {
    this.#on = false;
    await this.#ended;
  }
}

test.skipIf('reason' in haproxyProgram || 'reason' in nginxProgram)(
  'PgBouncer, HAProxy and nginx together: when one fails all are undone, else all end on green; nothing acknowledged is lost',
  async () => {
    if ('reason' in haproxyProgram || 'reason' in nginxProgram) throw new Error('skipped above');
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18, blue.name);
    for (const database of [blue, green]) await database.query('CREATE TABLE orders (id int PRIMARY KEY)');
    const server = (database: TestDatabase) => ({ host: '127.0.0.1', port: database.server.port });
    const place = (database: TestDatabase) => ({ ...server(database), dbname: database.name });
    await using bouncer = await startPgBouncer({ databases: { [blue.name]: place(blue) } });
    const sides = { blue: server(blue), green: server(green) };
    await using haproxy = await startHaproxy({ program: haproxyProgram.program, ...sides });
    await using nginx = await startNginx({ program: nginxProgram.program, blue: server(blue) });
    await using blueSession = await session(blue, 'blue');
    await using greenSession = await session(green, 'green');
    const [fromFence, toFence] = [blueSession.fence([table]), greenSession.fence([table])];
    for (const fence of [fromFence, toFence]) await fence.prepare();
    await toFence.raise(0, 5_000);

    // While this file is there nginx does not take green.
    const broken = join(dirname(nginx.configFile), 'broken');
    const reload = `grep -q 'green ' ${nginx.configFile} && [ -e ${broken} ] && exit 1; exec ${nginx.reload.join(' ')}`;
    await using proxies = new AsyncDisposableStack();
    const adapters = [
      adapterOf(pgbouncerFactory, {
        admin_url: bouncer.adminUrl,
        ini: bouncer.databasesIniPath,
        databases: [blue.name],
        blue: place(blue),
        green: place(green),
      }),
      adapterOf(haproxyFactory, {
        socket: haproxy.socket,
        backends: ['db'],
        blue: { server: 'blue', ...sides.blue },
        green: { server: 'green', ...sides.green },
        drain_ms: 100,
        state_file: haproxy.stateFile,
      }),
      adapterOf(templateFactory, {
        template: nginx.template,
        file: nginx.configFile,
        ...sides,
        reload: { shell: reload },
        verify: { connect: { host: '127.0.0.1', port: nginx.statusPort } },
        drained: { command: nginx.drained },
      }),
    ].map((adapter) => proxies.use(adapter));
    let epoch = 0;
    const context = (): CutoverContext => ({
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
        maxWritePauseMs: 30_000,
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
      failpoints: NO_FAILPOINTS,
    });
    const routes = () => Promise.all(adapters.map((adapter) => adapter.observe(live())));
    const all = (to: 'blue' | 'green') => adapters.map(() => ({ to, paused: false }));

    const urls = [bouncer.url(blue.name), haproxy.url(blue.name), nginx.url(blue.name)];
    const writers = urls.map((url, index) => new Writer(url, index * 1_000_000 + 1));
    const written = () => Promise.all(writers.map((writer) => writer.written()));
    try {
      await written();
      await writeFile(broken, '');
      expect(await cutover(context(), live())).toMatchObject({ outcome: 'undone' });
      expect(await routes()).toEqual(all('blue'));
      expect((await fromFence.state()).state).toBe('open');
      await written();
      await rm(broken);
      expect(await cutover(context(), live())).toMatchObject({ outcome: 'switched', error: null });
      expect(await routes()).toEqual(all('green'));
      await written();
    } finally {
      await Promise.all(writers.map((writer) => writer.stop()));
    }
    // What each promises: PgBouncer's clients saw nothing at all; those of HAProxy lost connections, but none was refused.
    const [pooled, held, refused] = writers.map((writer) => writer.failures);
    expect(pooled).toEqual([]);
    expect(held?.length).toBeGreaterThan(0);
    expect(held?.filter((failure) => failure.includes('ECONNREFUSED'))).toEqual([]);
    expect(refused?.length).toBeGreaterThan(0);

    const taken = async (database: TestDatabase) =>
      (await database.query<{ id: number }>('SELECT id FROM orders')).map((row) => row.id);
    const [onBlue, onGreen] = [await taken(blue), await taken(green)];
    const ids = [...onBlue, ...onGreen];
    expect(new Set(ids).size).toBe(ids.length);
    const acknowledged = new Set(writers.flatMap((writer) => [...writer.acknowledged]));
    const unsure = new Set(writers.flatMap((writer) => [...writer.unsure]));
    expect([...acknowledged].filter((id) => !ids.includes(id))).toEqual([]);
    expect(ids.filter((id) => !acknowledged.has(id) && !unsure.has(id))).toEqual([]);
    for (const side of [onBlue, onGreen]) expect(side.length).toBeGreaterThan(0);
  },
);
