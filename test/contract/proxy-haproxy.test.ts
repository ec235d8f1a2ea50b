import { describe, expect, test } from 'vitest';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { SILENT } from '../../src/core/log.ts';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
import { proxy } from '../../src/proxies/haproxy/index.ts';
import type { TestDatabase } from '../support/databases.ts';
import { debianProgramOrReason } from '../support/debian.ts';
import { freePort } from '../support/free-port.ts';
import { HAPROXY, startHaproxy, type Haproxy } from '../support/haproxy.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';
import { describeProxy, type ProxyHarness } from './proxy.ts';
import { sqlClient, twoSides } from './two-sides.ts';

const soon = (): AbortSignal => AbortSignal.timeout(10_000);
const found = await debianProgramOrReason(HAPROXY);
const sides = twoSides();
const missing = 'reason' in found ? found.reason : undefined;

interface World extends ProxyHarness {
  readonly haproxy: Haproxy;
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  /** HAProxy leads here for green: the name of blue's database leads to green's. */
  readonly toGreen: TcpProxy;
  adapter(more?: Record<string, unknown>): ProxyAdapter;
}

async function start(edit?: (text: string) => string): Promise<World> {
  if ('reason' in found) throw new Error(found.reason);
  const { blue, green } = sides;
  const toGreen = await startTcpProxy({ host: '127.0.0.1', port: green.server.port });
  const haproxy = await startHaproxy({
    program: found.program,
    blue: { host: '127.0.0.1', port: blue.server.port },
    green: toGreen,
    ...(edit === undefined ? {} : { edit }),
  });
  return {
    haproxy,
    blue,
    green,
    toGreen,
    adapter: (more = {}) => {
      const parsed = proxy.parseConfig({
        socket: haproxy.socket,
        client_url: haproxy.url(blue.name),
        backends: ['db'],
        blue: { server: 'blue', host: '127.0.0.1', port: blue.server.port },
        green: { server: 'green', host: '127.0.0.1', port: toGreen.port },
        state_file: haproxy.stateFile,
        holds_for_ms: 120_000,
        drain_ms: 600,
        ...more,
      });
      if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
      return proxy.create(parsed.config, { log: SILENT, failpoints: NO_FAILPOINTS });
    },
    client: () => sqlClient(haproxy.url(blue.name)),
    [Symbol.asyncDispose]: async () => {
      await haproxy[Symbol.asyncDispose]();
      await toGreen[Symbol.asyncDispose]();
    },
  };
}

describeProxy('haproxy', () => start(), {
  promise: { holdsStatements: false, keepsConnections: false, holdsConnections: true },
  ...(missing === undefined ? {} : { missing }),
});

describe.skipIf(missing !== undefined)('haproxy', () => {
  test('sessions-of-old-server: paused, not one session is left in HAProxy, and the server loses them too', async () => {
    await using world = await start();
    await using adapter = world.adapter({ drain_ms: 0 });
    const clients = await Promise.all([world.client(), world.client(), world.client()]);
    for (const client of clients) await client.ask();
    await adapter.pause(soon());
    expect(await world.haproxy.command('show stat')).toMatch(/^db,blue,0,\d+,0,/m);
    await waitFor(
      async () =>
        (
          await world.blue.query(
            `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
          )
        ).length === 0,
      { what: 'the server to see them go' },
    );
    for (const client of clients) await expect(client.ask()).rejects.toThrow();
    for (const client of clients) await client[Symbol.asyncDispose]();
  });

  test('restart-of-haproxy: with the server state file it comes back as it was, paused or switched', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await adapter.pause(soon());
    await adapter.route('green', 1, soon());
    await world.haproxy.kill('SIGKILL');
    await expect(adapter.observe(soon())).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
    await world.haproxy.start();
    expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: true });
    await adapter.resume(soon());
    await world.haproxy.kill('SIGKILL');
    await world.haproxy.start();
    expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
    await using client = await world.client();
    expect(await client.ask()).toBe('green');
  });

  test('several backends go together, over a TCP stats socket; on different sides they are mixed, and one that holds is paused', async () => {
    const port = await freePort();
    const second = (text: string): string =>
      `${text.replace('\n  maxconn', `\n  stats socket ipv4@127.0.0.1:${port} level admin\n  maxconn`)}\n${text.slice(text.indexOf('\nbackend db')).replace('\nbackend db', '\nbackend reports')}`;
    await using world = await start(second);
    const { haproxy } = world;
    await using adapter = world.adapter({ backends: ['db', 'reports'], socket: `127.0.0.1:${port}` });
    expect((await adapter.probe(soon())).findings).toEqual([]);
    await haproxy.command('set server reports/hold state ready');
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
    await adapter.resume(soon());
    await haproxy.command('set server reports/green state ready');
    expect(await adapter.observe(soon())).toMatchObject({ to: 'mixed', paused: false });
    await haproxy.command('set server reports/blue state maint');
    expect(await adapter.observe(soon())).toMatchObject({
      to: 'mixed',
      detail: 'db → blue, reports → green',
    });
    await adapter.pause(soon());
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
  });

  test('a server with another address than configured counts as unknown, and route sets it right', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await world.haproxy.command(`set server db/green addr 127.0.0.1 port 9`);
    await adapter.pause(soon());
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    await using client = await world.client();
    expect(await client.ask()).toBe('green');
    await world.haproxy.command(`set server db/green addr 127.0.0.1 port 9`);
    expect(await adapter.observe(soon())).toMatchObject({
      to: 'unknown',
      detail: expect.stringContaining('127.0.0.1:9'),
    });
  });

  test('a target that its health check calls down is not routed to', async () => {
    const checked = (text: string): string =>
      text.replace(/(server green \S+ backup disabled)/, '$1 check inter 50ms fall 1 rise 1');
    await using world = await start(checked);
    await using adapter = world.adapter();
    await world.toGreen.refuse();
    await adapter.pause(soon());
    // Leaving maintenance a server counts as up until its first check, so the first answer may be either.
    await adapter.route('green', 1, AbortSignal.timeout(1_000)).catch(() => undefined);
    await waitFor(async () => /^db,green,.*DOWN/m.test(await world.haproxy.command('show stat')), {
      what: 'green to be down',
    });
    await expect(adapter.route('green', 1, AbortSignal.timeout(300))).rejects.toMatchObject({
      code: 'PROXY_TIMEOUT',
    });
    const findings = (await adapter.probe(soon())).findings.map((finding) => finding.text);
    expect(findings).toContain('server db/green is down');
    await world.toGreen.restore();
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    await using client = await world.client();
    expect(await client.ask()).toBe('green');
  });

  test('a client of the proxy sees which side answers; while paused it waits for its bound', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    expect(await adapter.query?.('SELECT side FROM whoami', soon())).toBe('blue');
    await expect(adapter.query?.('SELECT 1 / 0', soon())).rejects.toMatchObject({
      message: expect.stringContaining('22012'),
    });
    await adapter.pause(soon());
    await expect(adapter.query?.('SELECT 1', AbortSignal.timeout(200))).rejects.toThrow();
    await adapter.resume(soon());
  });

  test('somebody who ends the pause while it begins is noticed', async () => {
    await using world = await start();
    await using adapter = world.adapter({ drain_ms: 30_000 });
    await using busy = await world.client();
    await busy.begin();
    const refused = expect(adapter.pause(AbortSignal.timeout(30_000))).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('somebody ended the pause'),
    });
    await waitFor(async () => (await adapter.observe(soon())).paused, { what: 'the pause to begin' });
    await world.haproxy.command('set server db/hold state maint');
    await refused;
    await busy.commit();
  });

  test('a frozen HAProxy ends every call at its bound; one that is gone or is no HAProxy is named', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await world.haproxy.kill('SIGSTOP');
    try {
      await expect(adapter.observe(AbortSignal.timeout(200))).rejects.toMatchObject({
        code: 'PROXY_TIMEOUT',
      });
      await expect(adapter.pause(AbortSignal.timeout(200))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    } finally {
      await world.haproxy.kill('SIGCONT');
    }
    expect(await adapter.observe(soon())).toMatchObject({ to: 'blue' });
    await adapter.resume(soon());
    await using stranger = world.adapter({ socket: `127.0.0.1:${world.blue.server.port}` });
    await expect(stranger.probe(soon())).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
    await world.haproxy.kill('SIGKILL');
    await expect(adapter.pause(soon())).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
  });

  test('a pause that a frozen HAProxy carries out late does not come after the resume', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    for (let round = 0; round < 25; round += 1) {
      await world.haproxy.kill('SIGSTOP');
      try {
        await expect(adapter.pause(AbortSignal.timeout(30))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
      } finally {
        await world.haproxy.kill('SIGCONT');
      }
      await adapter.resume(soon());
      for (let look = 0; look < 3; look += 1)
        expect(await adapter.observe(soon())).toMatchObject({ to: 'blue', paused: false });
    }
  });

  test('probe names what would hurt: no admin level, servers in the wrong role, missing or too many, no state file', async () => {
    const wrong = (text: string): string =>
      text
        .replace('600 level admin', '600 level operator')
        .replace('server hold 127.0.0.1:1 disabled', 'server hold 127.0.0.1:1 backup disabled')
        .replace(/server green.*/, 'server other 127.0.0.1:9');
    await using world = await start(wrong);
    await using adapter = world.adapter({ state_file: undefined });
    const { findings, holdsForMs } = await adapter.probe(soon());
    expect(holdsForMs).toBe(120_000);
    expect(findings.map((finding) => `${finding.level}: ${finding.text}`)).toEqual([
      'block: the stats socket has level operator',
      'block: backend db has no server green',
      'block: server db/hold is a backup server',
      'block: backend db has more servers: other',
      expect.stringMatching(/^block: HAProxy shows db has no server green/),
      expect.stringMatching(/^warn: a reload or restart of HAProxy after the switch/),
    ]);
    for (const finding of findings) expect(finding.remedy).not.toBe('');
    await expect(adapter.pause(soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      remedy: 'Give the stats socket `level admin`.',
    });
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({
      message: expect.stringContaining('has no server green'),
    });
  });

  test('a route whose state file cannot be written is refused, and half of a configuration too', async () => {
    await using world = await start();
    await using adapter = world.adapter({ state_file: '/proc/none/state' });
    expect((await adapter.probe(soon())).findings).toContainEqual(
      expect.objectContaining({ level: 'block' }),
    );
    await adapter.pause(soon());
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({ code: 'PROXY_UNEXPECTED' });
    const bad = proxy.parseConfig({
      socket: 'nowhere',
      backends: ['db; shutdown sessions'],
      blue: { server: 'a', host: '10.0.0.1' },
      green: { server: 'a', host: 'db.example' },
    });
    expect('issues' in bad && bad.issues.map((issue) => issue.path.join('.'))).toEqual([
      'socket',
      'backends.0',
      'green.host',
    ]);
  });
});
