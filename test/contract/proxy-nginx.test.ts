import { appendFile, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { SILENT, type Logger } from '../../src/core/log.ts';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
import { proxy } from '../../src/proxies/template/index.ts';
import { render, SETTINGS } from '../../src/proxies/template/render.ts';
import type { TestDatabase } from '../support/databases.ts';
import { debianProgramOrReason } from '../support/debian.ts';
import { NGINX, startNginx, type Nginx } from '../support/nginx.ts';
import { waitFor } from '../support/wait.ts';
import { describeProxy, type ProxyHarness } from './proxy.ts';
import { sqlClient, twoSides } from './two-sides.ts';

const soon = (): AbortSignal => AbortSignal.timeout(10_000);
const found = await debianProgramOrReason(NGINX);
const sides = twoSides();
const missing = 'reason' in found ? found.reason : undefined;

interface World extends ProxyHarness {
  readonly nginx: Nginx;
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  /** The folder of template, file and scripts. */
  readonly home: string;
  adapter(more?: Record<string, unknown>, log?: Logger): ProxyAdapter;
}

async function start(): Promise<World> {
  if ('reason' in found) throw new Error(found.reason);
  const { blue, green } = sides;
  const place = (database: TestDatabase) => ({ host: '127.0.0.1', port: database.server.port });
  const nginx = await startNginx({ program: found.program, blue: place(blue) });
  return {
    nginx,
    blue,
    green,
    home: dirname(nginx.configFile),
    adapter: (more = {}, log = SILENT) => {
      const parsed = proxy.parseConfig({
        template: nginx.template,
        file: nginx.configFile,
        client_url: nginx.url(blue.name),
        blue: place(blue),
        green: place(green),
        reload: { command: nginx.reload, show_output: true },
        verify: { connect: { host: '127.0.0.1', port: nginx.statusPort } },
        drained: { command: nginx.drained, show_output: true },
        version: { command: nginx.version },
        ...more,
      });
      if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
      return proxy.create(parsed.config, { log, failpoints: NO_FAILPOINTS });
    },
    client: () => sqlClient(nginx.url(blue.name)),
    [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose](),
  };
}

describeProxy('template with nginx', start, {
  promise: { holdsStatements: false, keepsConnections: false, holdsConnections: false },
  ...(missing === undefined ? {} : { missing }),
});

describe.skipIf(missing !== undefined)('template with nginx', () => {
  test('the file before the switch is kept, mode and owner do not change, and nothing else is left', async () => {
    await using world = await start();
    const { configFile } = world.nginx;
    const before = await readFile(configFile, 'utf8');
    const was = await stat(configFile);
    await using adapter = world.adapter();
    expect((await adapter.probe(soon())).version).toMatch(/nginx\/\d/);
    await adapter.route('green', 1, soon());
    expect(await readFile(`${configFile}.verdigris-backup`, 'utf8')).toBe(before);
    const { mode, uid, gid } = await stat(configFile);
    expect({ mode, uid, gid }).toEqual({ mode: was.mode, uid: was.uid, gid: was.gid });
    expect((await readdir(world.home)).filter((file) => file.startsWith('.'))).toEqual([]);
    expect(await adapter.query?.('SELECT side FROM whoami', soon())).toBe('green');
  });

  test('drained-is-proven: when the pause ends, the old worker and its connections are gone', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using client = await world.client();
    await client.ask();
    await adapter.pause(soon());
    const left = await world.blue.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`,
    );
    expect(left).toEqual([]);
    await waitFor(
      async () =>
        (
          await world.blue.query(
            `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
          )
        ).length === 0,
      { what: 'the server to see them go' },
    );
    await expect(client.ask()).rejects.toThrow();
  });

  test('routing while not paused ends the connections to the old server too', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using client = await world.client();
    await client.ask();
    await adapter.route('green', 1, soon());
    await expect(client.ask()).rejects.toThrow();
    await using next = await world.client();
    expect(await next.ask()).toBe('green');
  });

  test('a file that nginx does not take is refused by the reload, and the one before is put back', async () => {
    await using world = await start();
    const { nginx } = world;
    await using adapter = world.adapter({ green: { host: 'no such host', port: 1 } });
    const before = await readFile(nginx.configFile, 'utf8');
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringMatching(/reload ended with 1: .*/),
    });
    expect(await readFile(nginx.configFile, 'utf8')).toBe(before);
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
  });

  test('reload-that-does-nothing: it ends with 0, but what runs is still the old one; the file is put back', async () => {
    await using world = await start();
    const before = await readFile(world.nginx.configFile, 'utf8');
    await using adapter = world.adapter({ reload: { command: ['true'] }, verify_within_ms: 200 });
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('what runs says blue open, not green open'),
    });
    expect(await readFile(world.nginx.configFile, 'utf8')).toBe(before);
  });

  test('file and running program that differ are seen: edited by hand, written but not reloaded, gone', async () => {
    await using world = await start();
    const { nginx } = world;
    await using adapter = world.adapter();
    const good = await readFile(nginx.configFile, 'utf8');
    await appendFile(nginx.configFile, '# edited\n');
    expect(await adapter.observe(soon())).toMatchObject({ to: 'unknown', paused: false });
    expect((await adapter.probe(soon())).findings).toEqual([
      expect.objectContaining({
        level: 'block',
        text: expect.stringContaining('is not what the template gives'),
      }),
    ]);
    await expect(adapter.pause(soon())).rejects.toMatchObject({ code: 'PROXY_UNEXPECTED' });
    const side = (from: string, to: string, text: string): string => text.replaceAll(from, to);
    const green = side(
      `:${world.blue.server.port}`,
      `:${world.green.server.port}`,
      side('blue open', 'green open', good),
    );
    await writeFile(nginx.configFile, green);
    expect(await adapter.observe(soon())).toMatchObject({
      to: 'mixed',
      detail: 'the file says green open, what runs says blue open',
    });
    // Idempotent means: it is not enough that the file is right.
    await adapter.route('green', 1, soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
    await rm(nginx.configFile);
    await expect(adapter.observe(soon())).rejects.toMatchObject({ code: 'PROXY_UNEXPECTED' });
    await writeFile(nginx.configFile, green);
  });

  test('nginx that is gone is unreachable; what it answers elsewhere is not an answer', async () => {
    await using world = await start();
    await using stranger = world.adapter({ verify: { command: ['echo', 'canary-of-the-proxy'] } });
    expect(await stranger.observe(soon())).toEqual({
      to: 'unknown',
      paused: false,
      detail: 'what runs gives no answer that is understood',
    });
    await using adapter = world.adapter();
    await world.nginx.kill('SIGTERM');
    await expect(adapter.observe(soon())).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({ code: 'PROXY_UNEXPECTED' });
  });

  test('reload-that-hangs: it is ended with everything it started, and nothing of it acts later', async () => {
    await using world = await start();
    const late = join(world.home, 'late');
    const pids = join(world.home, 'pids');
    const script = `trap '' TERM; (trap '' TERM; echo $$ > ${pids}; sleep 2; echo late > ${late}) & wait; sleep 30`;
    await using adapter = world.adapter({ reload: { shell: script, timeout_ms: 300 } });
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({
      code: 'PROXY_TIMEOUT',
      message: expect.stringContaining('reload did not end within its time (300 ms or less)'),
    });
    const group = Number(await readFile(pids, 'utf8'));
    expect(await livingIn(group)).toEqual([]);
    expect(await readdir(world.home)).not.toContain('late');
  });

  test('what a program prints stays out of errors and logs unless it is allowed', async () => {
    await using world = await start();
    const secret = 'canary-of-the-proxy';
    const lines: string[] = [];
    const keep = (fields: Readonly<Record<string, unknown>>, message: string): void =>
      void lines.push(JSON.stringify(fields) + message);
    const log: Logger = { debug: keep, info: keep, warn: keep, error: keep, child: () => log };
    const failing = { shell: `echo ${'$'}{0:+${secret}}; echo ${secret} >&2; exit 3` };
    await using silent = world.adapter({ reload: failing }, log);
    const error: unknown = await silent.route('green', 1, soon()).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('ended with 3'),
    });
    expect(JSON.stringify(error) + String(error) + lines.join('')).not.toContain(secret);
    await using open = world.adapter({ reload: { ...failing, show_output: true } }, log);
    await expect(open.route('green', 1, soon())).rejects.toMatchObject({
      message: expect.stringContaining(secret),
    });
  });

  test('a proof of drained that fails is an error, and one that takes too long ends at the bound', async () => {
    await using world = await start();
    await using failing = world.adapter({ drained: { command: ['sh', '-c', 'exit 2'] } });
    await expect(failing.pause(soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('drained ended with 2'),
    });
    await using never = world.adapter({ drained: { command: ['false'] } });
    await expect(never.pause(AbortSignal.timeout(500))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    await using believing = world.adapter({ drained: { after_ms: 1 } });
    expect((await believing.probe(soon())).findings).toContainEqual(
      expect.objectContaining({ level: 'warn' }),
    );
    await believing.resume(soon());
    await believing.pause(soon());
    await believing.resume(soon());
  });

  test('a template that cannot work is refused: unknown names, no difference between sides, values of one side only', async () => {
    await using world = await start();
    const text = async (template: string): Promise<string[]> => {
      await writeFile(world.nginx.template, template);
      await using adapter = world.adapter();
      return (await adapter.probe(soon())).findings.map((finding) => finding.text);
    };
    expect(await text('{{hots}}')).toEqual([expect.stringContaining('names "hots"')]);
    expect(await text('{{#closed}}x{{/closed}}')).toEqual([expect.stringContaining('names section closed')]);
    expect(await text('{{#open}}x')).toEqual([expect.stringContaining('names "#open"')]);
    expect(await text('{{host}}')).toEqual([expect.stringContaining('gives the same text for two of')]);
    const parsed = proxy.parseConfig({
      template: '/a',
      file: '/a',
      blue: { host: 'a\nb', port: 1 },
      green: { host: 'b', port: 1, more: 1 },
      reload: { command: ['true'], shell: 'true' },
      verify: { command: [] },
      drained: { after_ms: -1 },
    });
    const paths = 'issues' in parsed ? parsed.issues.map((issue) => issue.path.join('.')) : [];
    expect(paths).toEqual(['blue.host', 'reload', 'verify', 'drained.after_ms']);
  });
});

test.each(['envoy.yaml', 'traefik.yaml', 'kubernetes.yaml'])(
  'the example %s says that it is not run; it renders, and differs for each side and state',
  async (example) => {
    const template = await readFile(new URL(`../../config/templates/${example}`, import.meta.url), 'utf8');
    expect(template).toMatch(/^# NOT RUN by the tests/);
    const values = { host: '192.0.2.1', port: 5432 };
    const all = SETTINGS.map((setting) => render(template, setting, values));
    expect(new Set(all).size).toBe(4);
    for (const text of all) {
      expect(text).not.toMatch(/\{\{|\}\}/);
      expect(parse(text)).toBeTypeOf('object');
    }
  },
);

/** Processes of a group that are not just waiting to be reaped. */
async function livingIn(group: number): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const [state, , own] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    if (Number(own) === group && state !== 'Z') found.push(pid);
  }
  return found;
}
