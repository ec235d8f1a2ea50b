import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseEnvelope, type Envelope } from '../../../src/app/envelope.ts';
import { Redactor } from '../../../src/app/redact.ts';
import { controlSocketPath } from '../../../src/app/socket-path.ts';
import { ControlClient } from '../../../src/cli/client.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import { serveControl } from '../../../src/http/server.ts';
import { configFolder } from '../config/write-config.ts';
import { cli } from '../cli/run.ts';
import {
  CUTOVER_REPORT,
  scriptedEngine,
  SHUT_GATE,
  STATUS,
  VERIFY_REPORT,
  type Script,
} from './scripted-engine.ts';

interface Served extends AsyncDisposable {
  readonly path: string;
  readonly folder: string;
  readonly script: Script;
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; envelope: Envelope }>;
}

async function serve(change: Partial<Script> = {}, lingerMs = 0): Promise<Served> {
  const folder = await mkdtemp(join(tmpdir(), 'verdigris-http-'));
  const script: Script = { status: STATUS, calls: [], migration: {}, ...change };
  const path = join(folder, 'crm-v2.sock');
  const server = await serveControl(path, {
    engine: scriptedEngine(script),
    redactor: new Redactor(['c4n4ry-pass']),
    lingerMs,
  });
  const call: Served['call'] = (method, target, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const sent = request(
        { socketPath: path, method, path: target, headers: { host: 'localhost', ...headers } },
        (answer) => {
          let text = '';
          answer.setEncoding('utf8');
          answer.on('data', (part: string) => (text += part));
          answer.on('end', () =>
            resolve({ status: answer.statusCode ?? 0, envelope: parseEnvelope(JSON.parse(text)) }),
          );
        },
      );
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
    });
  return {
    path,
    folder,
    script,
    call,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const CONFIRMED = { planHash: 'hash-in-force', confirm: 'crm-v2' };

test('the socket is open to its user only and gone afterwards', async () => {
  const served = await serve();
  expect((await stat(served.path)).mode & 0o777).toBe(0o600);
  await served[Symbol.asyncDispose]();
  await expect(stat(served.path)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a leftover socket is replaced, a live one is refused', async () => {
  await using served = await serve();
  const options = { engine: scriptedEngine(served.script), redactor: new Redactor() };
  await expect(serveControl(served.path, options)).rejects.toMatchObject({ code: 'STATE_LEASE_HELD' });
  const leftover = join(served.folder, 'old.sock');
  await writeFile(leftover, '');
  await using _second = await serveControl(leftover, options);
  await expect(new ControlClient(leftover).get('/healthz')).resolves.toMatchObject({ ok: true });
});

test('reads answer in the envelope', async () => {
  await using served = await serve();
  expect(await served.call('GET', '/healthz')).toMatchObject({ status: 200, envelope: { kind: 'Health' } });
  expect(await served.call('GET', '/api/v1/status')).toMatchObject({
    status: 200,
    envelope: { kind: 'Status', data: { phase: 'replicating' } },
  });
  expect(await served.call('GET', '/api/v1/tables')).toMatchObject({
    envelope: { data: [{ table: 'public.orders' }] },
  });
  expect(await served.call('GET', '/api/v1/gates')).toMatchObject({
    envelope: { data: [{ name: 'lag' }, { name: 'verified' }] },
  });
  expect(await served.call('GET', '/api/v1/journal?after=1&limit=1')).toMatchObject({
    envelope: { kind: 'Events', data: [{ sequence: 2 }] },
  });
  expect(await served.call('GET', '/api/v1/verify')).toMatchObject({ status: 200, envelope: { data: null } });
  expect(await served.call('GET', '/api/v1/journal?limit=0')).toMatchObject({
    status: 400,
    envelope: { error: { code: 'USAGE' } },
  });
  expect(await served.call('GET', '/nothing')).toMatchObject({ status: 404, envelope: { ok: false } });
  expect(await served.call('GET', '/api/v1/actions/none')).toMatchObject({ status: 404 });
  expect(await served.call('POST', '/api/v1/actions/destroy')).toMatchObject({ status: 404 });
});

test.each([
  [{}, 200],
  [{ condition: 'error', reason: 'sink is gone' }, 503],
  [{ condition: 'blocked', reason: 'waiting' }, 503],
  [{ phase: 'undetermined' }, 503],
  [{ lag: { ...STATUS.lag, lastEventAgeSeconds: 61 } }, 503],
  [{ lag: { ...STATUS.lag, lastEventAgeSeconds: null } }, 200],
] as const)('readiness of %j is %i', async (change, status) => {
  await using served = await serve({ status: { ...STATUS, ...change } });
  expect((await served.call('GET', '/readyz')).status).toBe(status);
});

test('an act answers 202 with an action that can be waited for', async () => {
  const hold = Promise.withResolvers<void>();
  await using served = await serve({
    migration: {
      verify: () => hold.promise.then(() => VERIFY_REPORT),
      verification: () => Promise.resolve({ ...VERIFY_REPORT, endedAt: '2026-11-22T02:00:00.000Z' }),
    },
  });
  const { status, envelope } = await served.call('POST', '/api/v1/actions/verify', {
    tables: ['public.orders'],
  });
  expect({ status, state: (envelope.data as { state: string }).state }).toEqual({
    status: 202,
    state: 'running',
  });
  const { id } = envelope.data as { id: string };
  expect(await served.call('GET', `/api/v1/actions/${id}`)).toMatchObject({
    envelope: { data: { state: 'running', result: null } },
  });
  const waiting = served.call('GET', `/api/v1/actions/${id}?wait=20`);
  hold.resolve();
  expect(await waiting).toMatchObject({ envelope: { data: { state: 'done', result: { ok: true } } } });
  expect(await served.call('GET', '/api/v1/verify')).toMatchObject({
    envelope: { kind: 'Verify', data: { rows: 10 } },
  });
});

test('an act that fails is a failed action, its error without secrets', async () => {
  await using served = await serve({
    migration: {
      resume: () => Promise.reject(new VerdigrisError('SINK_LOST', 'lost postgres://a:c4n4ry-pass@h/d')),
    },
  });
  const begun = await served.call('POST', '/api/v1/actions/resume', {});
  const { id } = begun.envelope.data as { id: string };
  const { envelope } = await served.call('GET', `/api/v1/actions/${id}?wait=20`);
  expect(envelope).toMatchObject({
    ok: true,
    data: { state: 'failed', error: { code: 'SINK_LOST', retryable: true } },
  });
  expect(JSON.stringify(envelope)).not.toContain('c4n4ry-pass');
});

test.each(['cutover', 'rollback', 'abort', 'finish'])(
  '%s needs the name and the hash of the plan in force',
  async (kind) => {
    await using served = await serve();
    const refused = async (body: unknown): Promise<unknown> => {
      const { status, envelope } = await served.call('POST', `/api/v1/actions/${kind}`, body);
      return { status, code: envelope.error?.code };
    };
    expect(await refused({})).toEqual({ status: 400, code: 'CONFIRMATION' });
    expect(await refused({ confirm: 'crm-v2' })).toEqual({ status: 400, code: 'CONFIRMATION' });
    expect(await refused({ ...CONFIRMED, confirm: 'crm-v3' })).toEqual({ status: 400, code: 'CONFIRMATION' });
    expect(await refused({ ...CONFIRMED, planHash: 'older' })).toEqual({ status: 412, code: 'PLAN_STALE' });
    expect(await refused({ ...CONFIRMED, force: true })).toEqual({ status: 400, code: 'USAGE' });
    expect(await refused('{')).toEqual({ status: 400, code: 'USAGE' });
    expect(served.script.calls).toEqual([]);
    expect((await served.call('POST', `/api/v1/actions/${kind}`, CONFIRMED)).status).toBe(202);
    expect(served.script.calls).toHaveLength(1);
  },
);

test('a gate that is not met is 409 with the gates, unless it is overridden with a reason', async () => {
  await using served = await serve({ status: { ...STATUS, gates: [...STATUS.gates, SHUT_GATE] } });
  const { status, envelope } = await served.call('POST', '/api/v1/actions/cutover', CONFIRMED);
  expect(status).toBe(409);
  expect(envelope.error).toMatchObject({ code: 'CUTOVER_GATE', context: { gates: [SHUT_GATE] } });
  expect(served.script.calls).toEqual([]);
  const overrides = [{ gate: 'rejects', reason: 'known rows' }];
  expect((await served.call('POST', '/api/v1/actions/cutover', { ...CONFIRMED, overrides })).status).toBe(
    202,
  );
  expect(served.script.calls).toEqual([['cutover', { dryRun: false, overrides }]]);
});

test('the same idempotency key switches once', async () => {
  await using served = await serve();
  const body = { ...CONFIRMED, idempotencyKey: 'k1' };
  const first = await served.call('POST', '/api/v1/actions/cutover', body);
  const again = await served.call('POST', '/api/v1/actions/cutover', body);
  expect((again.envelope.data as { id: string }).id).toBe((first.envelope.data as { id: string }).id);
  expect(served.script.calls).toHaveLength(1);
  expect(
    (await served.call('POST', '/api/v1/actions/finish', { ...CONFIRMED, idempotencyKey: 'k1' })).status,
  ).toBe(400);
});

test('of acts that move traffic or delete one runs at a time', async () => {
  const hold = Promise.withResolvers<void>();
  await using served = await serve({ migration: { cutover: () => hold.promise.then(() => CUTOVER_REPORT) } });
  await served.call('POST', '/api/v1/actions/cutover', CONFIRMED);
  const second = await served.call('POST', '/api/v1/actions/abort', CONFIRMED);
  expect(second).toMatchObject({ status: 409, envelope: { error: { code: 'CUTOVER_PHASE' } } });
  expect((await served.call('POST', '/api/v1/actions/pause', {})).status).toBe(202);
  hold.resolve();
});

test('a page in a browser cannot act', async () => {
  await using served = await serve();
  const { status } = await served.call('POST', '/api/v1/actions/pause', {}, { origin: 'http://localhost' });
  expect(status).toBe(400);
  expect(served.script.calls).toEqual([]);
});

test('the end of the server waits for who asked for the act', async () => {
  const served = await serve({}, 20_000);
  const { envelope } = await served.call('POST', '/api/v1/actions/abort', CONFIRMED);
  const closing = served[Symbol.asyncDispose]();
  const { id } = envelope.data as { id: string };
  expect(await served.call('GET', `/api/v1/actions/${id}?wait=5`)).toMatchObject({
    envelope: { data: { state: 'done' } },
  });
  await closing;
});

test('a path that no socket can have is replaced by a short one', () => {
  const short = controlSocketPath({ migration: 'crm-v2', server: {} }, { XDG_STATE_HOME: '/state' });
  expect(short).toBe('/state/verdigris/crm-v2.sock');
  const deep = { migration: 'crm-v2', server: { state_dir: `/${'d'.repeat(120)}` } };
  expect(Buffer.byteLength(controlSocketPath(deep, {}))).toBeLessThanOrEqual(107);
  expect(controlSocketPath(deep, {})).not.toBe(controlSocketPath({ ...deep, migration: 'other' }, {}));
});

test('what answers with something else is not taken for an engine', async () => {
  await using folder = await configFolder();
  const path = join(folder.path, 'x.sock');
  const server = createServer((_request, answer) => answer.end('<html>'));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await expect(new ControlClient(path).get('/api/v1/status')).rejects.toMatchObject({ code: 'INTERNAL' });
  } finally {
    server.close();
  }
});

// ---- the commands over this API

async function withConfig(
  served: Served,
): Promise<{ args: string[]; env: Record<string, string> } & AsyncDisposable> {
  const folder = await configFolder();
  const file = await folder.write(
    'c.yaml',
    `version: 1\nmigration: crm-v2\nblue: { engine: postgres, url: postgres://a@127.0.0.1:1/b }\ngreen: { engine: postgres, url: postgres://a@127.0.0.1:1/g }\ntables: [{ from: a.b }]\nserver: { state_dir: ${served.folder} }\n`,
  );
  await folder.write('plan.json', JSON.stringify({ hash: 'hash-in-force' }));
  await folder.write('old.json', JSON.stringify({ data: { hash: 'older' } }));
  return {
    args: ['-c', file],
    env: { DIR: folder.path },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('status, wait, events, pause, resume and verify over the socket', async () => {
  await using served = await serve();
  await using at = await withConfig(served);
  const run = (...argv: string[]) => cli([...argv, ...at.args, '--json']);
  expect(await run('status')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Status', data: { phase: 'replicating' } }],
  });
  expect(await run('status', '--exit-code')).toMatchObject({ code: 0 });
  expect(await run('wait', '--for', 'phase=copying', '--for', 'gate=ready', '--timeout', '5s')).toMatchObject(
    { code: 0, envelopes: [{ kind: 'Wait' }] },
  );
  expect(await run('wait', '--for', 'phase=reversing', '--timeout', '300ms')).toMatchObject({ code: 124 });
  expect(
    (await run('events', '--since', '1')).envelopes.map(({ kind, data }) => [
      kind,
      (data as { sequence: number }).sequence,
    ]),
  ).toEqual([
    ['Event', 2],
    ['Event', 3],
  ]);
  expect(await run('pause', '--scope', 'copy', '--reason', 'month end')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Paused' }],
  });
  expect(await run('resume')).toMatchObject({ code: 0 });
  expect(await run('verify', '--tables', 'crm.sales_order')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Verify', data: { rows: 10 } }],
  });
  expect(await run('verify', 'show')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Verify', data: { rows: 10 } }],
  });
  expect(served.script.calls).toEqual([
    ['pause', 'copy', 'month end'],
    ['resume', 'all'],
    ['verify', { mode: 'full', tables: ['crm.sales_order'] }],
  ]);
});

test('not ready is exit 10 with --exit-code', async () => {
  await using served = await serve({ status: { ...STATUS, gates: [SHUT_GATE] } });
  await using at = await withConfig(served);
  expect((await cli(['status', '--exit-code', ...at.args])).code).toBe(10);
});

test('differences are exit 5, with the report beside the error', async () => {
  const mismatches = [
    {
      table: 'crm.sales_order',
      kind: 'missing',
      key: { id: '7' },
      columns: [],
      firstSeen: '2026-11-22T02:00:00.000Z',
    },
  ] as const;
  const tables = [{ ...VERIFY_REPORT.tables[0], differences: 1 }] as unknown as typeof VERIFY_REPORT.tables;
  await using served = await serve({
    migration: { verify: () => Promise.resolve({ ...VERIFY_REPORT, ok: false, tables, mismatches }) },
  });
  await using at = await withConfig(served);
  const run = await cli(['verify', ...at.args, '--json']);
  expect(run.code).toBe(5);
  expect(run.envelopes).toMatchObject([
    { ok: false, data: { mismatches }, error: { code: 'VERIFY_DIFFERENT' } },
  ]);
  expect((await cli(['verify', ...at.args])).out).toContain('missing   crm.sales_order id=7');
});

test.each([
  ['switched', null, 0, undefined],
  ['undone', 'PROXY_TIMEOUT', 6, 'CUTOVER_UNDONE'],
  ['undone', 'CUTOVER_GATE', 4, 'CUTOVER_GATE'],
  ['undetermined', 'PROXY_UNREACHABLE', 7, 'CUTOVER_UNDETERMINED'],
] as const)('a cutover that is %s (%s) exits %i', async (outcome, code, exit, shown) => {
  const error = code === null ? null : { code, message: 'because', remedy: 'do this' };
  await using served = await serve({
    migration: { cutover: () => Promise.resolve({ ...CUTOVER_REPORT, outcome, error }) },
  });
  await using at = await withConfig(served);
  const run = await cli([
    'cutover',
    '--confirm',
    'crm-v2',
    '--plan',
    join(at.env['DIR'] as string, 'plan.json'),
    ...at.args,
    '--json',
  ]);
  expect(run.code).toBe(exit);
  expect(run.envelopes).toMatchObject([{ kind: 'Cutover', data: { outcome } }]);
  expect(run.envelopes[0]?.error?.code).toBe(shown);
});

test('a stale plan is exit 11, a gate is exit 4, and nothing is asked of the run', async () => {
  await using served = await serve({ status: { ...STATUS, gates: [SHUT_GATE] } });
  await using at = await withConfig(served);
  const confirm = ['--confirm', 'crm-v2', '--plan'];
  expect(
    (await cli(['cutover', ...confirm, join(at.env['DIR'] as string, 'old.json'), ...at.args, '--json']))
      .code,
  ).toBe(11);
  expect(
    (await cli(['cutover', ...confirm, join(at.env['DIR'] as string, 'plan.json'), ...at.args, '--json']))
      .code,
  ).toBe(4);
  expect(served.script.calls).toEqual([]);
});

test('on a terminal the plan is shown and the name must be typed', async () => {
  await using served = await serve();
  await using at = await withConfig(served);
  const wrong = await cli(['cutover', ...at.args], { answer: 'yes' });
  expect(wrong.code).toBe(2);
  expect(wrong.err).toContain('pause the proxies');
  expect(served.script.calls).toEqual([
    ['cutover', { by: expect.any(String) as unknown, dryRun: true, overrides: [] }],
  ]);
  const right = await cli(['abort', ...at.args], { answer: 'crm-v2' });
  expect(right.code).toBe(0);
  expect(served.script.calls.at(-1)).toEqual(['abort', { dropGreenData: false }]);
  // Where --no-input says so, nobody is asked although a terminal is there.
  expect((await cli(['finish', '--no-input', ...at.args], { answer: 'crm-v2' })).code).toBe(2);
});
