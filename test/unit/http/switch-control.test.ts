import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Redactor } from '../../../src/app/redact.ts';
import { serveControl } from '../../../src/http/server.ts';
import { configFolder } from '../config/write-config.ts';
import { cli, type CliRun } from '../cli/run.ts';
import { REHEARSAL, scriptedEngine, SHUT_GATE, STATUS, type Script } from './scripted-engine.ts';

/** Commands that decide who may switch and when, from their arguments to what the run is asked. */

interface Place extends AsyncDisposable {
  readonly script: Script;
  readonly calls: unknown[][];
  run(...argv: string[]): Promise<CliRun>;
  file(name: string): string;
}

async function place(change: Partial<Script> = {}): Promise<Place> {
  const folder = await configFolder();
  const file = await folder.write(
    'c.yaml',
    `version: 1\nmigration: crm-v2\nblue: { engine: postgres, url: postgres://a@127.0.0.1:1/b }\ngreen: { engine: postgres, url: postgres://a@127.0.0.1:1/g }\ntables: [{ from: a.b }]\nserver: { state_dir: ${folder.path} }\n`,
  );
  await folder.write('plan.json', JSON.stringify({ hash: 'hash-in-force' }));
  await folder.write('old.json', JSON.stringify({ hash: 'older' }));
  const script: Script = { status: STATUS, calls: [], migration: {}, ...change };
  const server = await serveControl(join(folder.path, 'crm-v2.sock'), {
    engine: scriptedEngine(script),
    redactor: new Redactor(),
    lingerMs: 0,
  });
  return {
    script,
    calls: script.calls,
    file: (name) => join(folder.path, name),
    run: (...argv) => cli([...argv, '-c', file, '--json'], { env: { SUDO_USER: 'ada' } }),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test('approve: the plan in force or the one of a file, by who called sudo or as named', async () => {
  await using at = await place();
  const done = await at.run('approve', '--as', 'dba', '--note', 'looked at it');
  expect(done).toMatchObject({ code: 0, envelopes: [{ kind: 'Approval', ok: true }] });
  expect(at.calls).toEqual([
    ['approve', { by: 'ada', role: 'dba', note: 'looked at it', planHash: 'hash-in-force' }],
  ]);
  await at.run('approve', '--by', 'bob', '--plan', at.file('old.json'));
  expect(at.calls[1]).toEqual(['approve', { by: 'bob', role: '', note: '', planHash: 'older' }]);
  expect(await at.run('approve', 'revoke', '--reason', 'month end')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Revoked' }],
  });
  expect(at.calls[2]).toEqual(['revoke', { by: 'ada', reason: 'month end' }]);
});

test('cutover --at, --window and --wait store a request and end; shut gates are what it waits for', async () => {
  await using at = await place({ status: { ...STATUS, gates: [SHUT_GATE] } });
  const confirmed = ['--confirm', 'crm-v2', '--plan', at.file('plan.json')];
  const asked = await at.run('cutover', '--at', '2026-11-28T02:00:00+01:00', '--wait', '30m', ...confirmed);
  expect(asked).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'CutoverRequest', data: { id: 'c-1', state: 'waiting' } }],
  });
  await at.run('cutover', '--window', 'saturday', '--override', 'rejects=known rows', ...confirmed);
  await at.run('cutover', '--wait', '2h', '--max-write-pause', '5s', '--by', 'bob', ...confirmed);
  expect(at.calls).toEqual([
    ['schedule', { at: '2026-11-28T02:00:00+01:00', waitMs: 1_800_000, by: 'ada', overrides: [] }],
    ['schedule', { window: 'saturday', by: 'ada', overrides: [{ gate: 'rejects', reason: 'known rows' }] }],
    ['schedule', { waitMs: 7_200_000, by: 'bob', maxWritePauseMs: 5_000, overrides: [] }],
  ]);
});

test('a request that waits needs the same confirmation, and a dry run has no time', async () => {
  await using at = await place();
  expect((await at.run('cutover', '--wait', '1h')).envelopes[0]?.error?.code).toBe('CONFIRMATION');
  const stale = await at.run('cutover', '--wait', '1h', '--confirm', 'crm-v2', '--plan', at.file('old.json'));
  expect(stale).toMatchObject({ code: 11, envelopes: [{ error: { code: 'PLAN_STALE' } }] });
  expect((await at.run('cutover', '--dry-run', '--wait', '1h')).code).toBe(2);
  expect(at.calls).toEqual([]);
});

test('a refusal names every gate with what was seen and what it asks for', async () => {
  await using at = await place({ status: { ...STATUS, gates: [SHUT_GATE] } });
  const refused = await at.run('cutover', '--confirm', 'crm-v2', '--plan', at.file('plan.json'));
  expect(refused.code).toBe(4);
  expect(refused.envelopes[0]?.error?.message).toContain('rejects: 2, limit 0 (2 rejected rows)');
});

test('cutover cancel says what became of it', async () => {
  await using at = await place();
  expect(await at.run('cutover', 'cancel', '--reason', 'incident')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'CutoverRequest', data: { state: 'cancelled' } }],
  });
  expect(at.calls).toEqual([['cancel', { by: 'ada', reason: 'incident' }]]);
});

test('rehearse shows every act; one that failed is its error and its exit code', async () => {
  await using at = await place();
  expect(await at.run('rehearse')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Rehearsal', ok: true, data: { rows: 100, writePauseMs: 80 } }],
  });
  const error = { code: 'CUTOVER_FENCE_LEAKS', message: 'a write went through', remedy: 'look' };
  at.script.migration = {
    rehearse: () => Promise.resolve({ ...REHEARSAL, ok: false, writePauseMs: null, error }),
  };
  const failed = await at.run('rehearse');
  expect(failed.code).not.toBe(0);
  expect(failed.envelopes).toMatchObject([
    { ok: false, data: { ok: false }, error: { code: 'CUTOVER_FENCE_LEAKS', hint: 'look' } },
  ]);
});

test('report as Markdown or JSON, to a file as well', async () => {
  await using at = await place();
  expect(await at.run('report')).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Report', data: { migration: 'crm-v2' } }],
  });
  await at.run('report', '--out', at.file('report.md'));
  expect(await readFile(at.file('report.md'), 'utf8')).toMatch(/^# Migration crm-v2\n/);
  await at.run('report', '--format', 'json', '--out', at.file('report.json'));
  expect(JSON.parse(await readFile(at.file('report.json'), 'utf8'))).toMatchObject({ migration: 'crm-v2' });
  expect((await at.run('report', '--format', 'pdf')).code).toBe(2);
});
