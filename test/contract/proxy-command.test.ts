import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { SILENT } from '../../src/core/log.ts';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
import { proxy } from '../../src/proxies/command/index.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { newDir, runDir } from '../support/run-dir.ts';
import { describeProxy, type ProxyHarness } from './proxy.ts';
import { sqlClient, twoSides } from './two-sides.ts';

const soon = (): AbortSignal => AbortSignal.timeout(10_000);
const PROGRAM = fileURLToPath(new URL('./pgbouncer-command.ts', import.meta.url));
const sides = twoSides();

function create(input: Record<string, unknown>): ProxyAdapter {
  const parsed = proxy.parseConfig(input);
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return proxy.create(parsed.config, { log: SILENT, failpoints: NO_FAILPOINTS });
}

/** The reference program, with a real PgBouncer behind it. */
async function start(): Promise<ProxyHarness> {
  const place = (side: 'blue' | 'green') => ({
    host: '127.0.0.1',
    port: sides[side].server.port,
    dbname: sides[side].name,
  });
  const bouncer = await startPgBouncer({ databases: { crm: place('blue') } });
  const settings = join(await newDir('command'), 'place.json');
  const { adminUrl, databasesIniPath: ini } = bouncer;
  const is = { adminUrl, ini, database: 'crm', blue: place('blue'), green: place('green') };
  await writeFile(settings, JSON.stringify(is));
  return {
    adapter: () =>
      create({
        // One process for each action: compiled once for all of them.
        command: [
          '/usr/bin/env',
          `NODE_COMPILE_CACHE=${join(runDir(), 'compiled')}`,
          process.execPath,
          PROGRAM,
          settings,
        ],
        show_output: true,
        promise: { holds_statements: true, holds_connections: true, keeps_connections: true },
      }),
    client: () => sqlClient(bouncer.url('crm')),
    [Symbol.asyncDispose]: () => bouncer[Symbol.asyncDispose](),
  };
}

describeProxy('command with a program for PgBouncer', start, {
  promise: { holdsStatements: true, keepsConnections: true, holdsConnections: true },
});

describe('command', () => {
  /** An adapter over a shell script, and the folder that it runs with. */
  const scripted = async (script: string, more: Record<string, unknown> = {}) => {
    const home = await newDir('command');
    const program = join(home, 'program');
    await writeFile(program, `#!/bin/sh\ncd ${home}\n${script}\n`);
    await chmod(program, 0o755);
    return { home, adapter: create({ command: [program], ...more }) };
  };

  test('it is told what to do, once for each action, and asked afterwards', async () => {
    const script = `cat >> requests; echo '{"to":"green","paused":true,"version":"1","waiting":3}'`;
    const { home, adapter } = await scripted(script, { timeout_ms: 9_000 });
    await adapter.probe(soon());
    await adapter.route('green', 7, soon());
    await adapter.pause(soon());
    expect(await adapter.waiting(soon())).toBe(3);
    await expect(adapter.resume(soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('resume ended with 0, but observe says green, paused'),
    });
    const requests = (await readFile(join(home, 'requests'), 'utf8')).trim().split('\n');
    const told = { protocol: 1, side: null, epoch: null, deadlineMs: 9_000 };
    expect(requests.map((line) => JSON.parse(line) as unknown)).toEqual([
      { ...told, action: 'probe' },
      { ...told, action: 'route', side: 'green', epoch: 7 },
      { ...told, action: 'observe' },
      { ...told, action: 'pause' },
      { ...told, action: 'observe' },
      { ...told, action: 'observe' },
      { ...told, action: 'resume' },
      { ...told, action: 'observe' },
    ]);
  });

  test.each([
    ['exit 69', 'PROXY_UNREACHABLE', 'ended with 69'],
    ['exit 75', 'PROXY_TIMEOUT', 'ended with 75'],
    ['exit 7', 'PROXY_UNEXPECTED', 'ended with 7'],
    [
      `echo '{"error":"no such pool.","remedy":"add it"}'; exit 1`,
      'PROXY_UNEXPECTED',
      'ended with 1: no such pool.',
    ],
    ['kill -9 $$', 'PROXY_UNEXPECTED', 'was ended by SIGKILL'],
    ['echo hello', 'PROXY_UNEXPECTED', 'printed no answer of protocol 1'],
    [`echo '{"to":"blue"}'`, 'PROXY_UNEXPECTED', 'printed no answer of protocol 1: paused'],
    [`echo '{"to":"red","paused":false}'`, 'PROXY_UNEXPECTED', 'printed no answer of protocol 1: to'],
    ['yes', 'PROXY_UNEXPECTED', 'prints without end'],
  ])('a program that does not keep the contract is refused: %s', async (script, code, message) => {
    const { adapter } = await scripted(script);
    await expect(adapter.observe(soon())).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  test('one that is not there or may not be run is named', async () => {
    await using adapter = create({ command: ['/nowhere/program'] });
    await expect(adapter.probe(soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining('cannot be started (ENOENT)'),
    });
  });

  test('hang: at its time, or when the signal fires, it is ended with everything it started', async () => {
    const script = `(trap '' TERM; sleep 1; echo late > late) & echo started > started; wait; sleep 30`;
    const { home, adapter } = await scripted(script, { timeout_ms: 300 });
    await expect(adapter.pause(soon())).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    const { adapter: patient } = await scripted('sleep 30');
    await expect(patient.pause(AbortSignal.timeout(200))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    await expect(patient.pause(AbortSignal.abort())).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    expect(await readdir(home)).toEqual(['program', 'started']);
  });

  test('a daemon that it leaves behind does not keep the answer', async () => {
    const { adapter } = await scripted(`sleep 3 & echo '{"to":"blue","paused":false}'`);
    const started = performance.now();
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    expect(performance.now() - started).toBeLessThan(2_900);
  });

  test('what it prints on standard error stays out of errors unless that is allowed; stray output never comes in', async () => {
    const secret = 'canary-of-the-proxy';
    const script = `echo ${secret} >&2; echo ${secret}; exit 4`;
    const { adapter } = await scripted(script);
    const error: unknown = await adapter.observe(soon()).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PROXY_UNEXPECTED' });
    expect(JSON.stringify(error) + String(error)).not.toContain(secret);
    const { adapter: open } = await scripted(script, { show_output: true });
    await expect(open.observe(soon())).rejects.toMatchObject({ message: expect.stringContaining(secret) });
  });
});
