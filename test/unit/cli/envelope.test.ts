import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CODES, type Code } from '../../../src/core/errors.ts';
import { EXIT_MEANINGS, exitCodeOf } from '../../../src/app/exit.ts';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { helpPages } from '../../../src/cli/program.ts';
import { configFolder, SMALLEST } from '../config/write-config.ts';
import { cli } from './run.ts';

const example = new URL('../../../config/postgres.example.yaml', import.meta.url).pathname;
const env = {
  BLUE_URL: 'postgres://app:c4n4ry-pass@127.0.0.1:1/old',
  GREEN_URL: 'postgres://app:c4n4ry-pass@127.0.0.1:1/new',
};

test.each([
  [['version'], 0, 'Version'],
  [['-V'], 0, 'Version'],
  [['help'], 0, 'Help'],
  [['help', 'exit-codes'], 0, 'Help'],
  [['help', 'env'], 0, 'Help'],
  [['help', 'verify', 'show'], 0, 'Help'],
  [['--help'], 0, 'Help'],
  [['cutover', '--help'], 0, 'Help'],
  [['config', 'schema'], 0, 'ConfigSchema'],
  [['config', 'check', '-c', example], 0, 'ConfigCheck'],
  [['config', 'show', '-c', example], 0, 'Config'],
  [['config', 'show', '--origin', '-c', example], 0, 'ConfigOrigins'],
])('%j prints one envelope and exits %i', async (argv, code, kind) => {
  const run = await cli([...argv, '--json'], { env });
  expect(run.code).toBe(code);
  expect(run.envelopes).toMatchObject([{ kind, ok: true, error: null }]);
  expect(run.out + run.err).not.toContain('c4n4ry-pass');
  const forPeople = await cli(argv, { env });
  expect(forPeople.code).toBe(code);
  expect(forPeople.out.length).toBeGreaterThan(10);
  expect(forPeople.out + forPeople.err).not.toContain('c4n4ry-pass');
});

test.each([
  [[], 'a command is missing'],
  [['config'], 'a command is missing'],
  [['strat'], "unknown command 'strat'"],
  [['status', '--wacth'], "unknown option '--wacth'"],
  [['wait'], "required option '--for <condition>'"],
  [['wait', '--for', 'phase=done'], 'not a condition'],
  [['version', 'extra'], 'too many arguments'],
  [['help', 'nothing'], 'there is no page nothing'],
  [['plan', '--timeout', '5'], '--timeout needs a duration'],
  [['pause', '--scope', 'everything'], '--scope is one of'],
  [['verify', '--mode', 'quick'], '--mode is'],
  [['start', '--until', 'done'], '--until is one of'],
  [['status', '--format', 'xml'], '--format is'],
  [['bench', '--profile', 'quick'], '--profile is one of catchup, copy'],
  [['bench', '--rows', '5'], '--rows is for --profile copy'],
  [['bench', '--transactions', '1.5'], '--transactions is a whole number'],
  [['bench', '--blue', 'postgres://127.0.0.1:1/x'], '--blue and --green go together'],
  [
    ['bench', '--yes', '--blue', 'mysql://127.0.0.1:1/x', '--green', 'mysql://127.0.0.1:1/y'],
    'there is no bench for mysql yet',
  ],
])('usage error %j is an envelope on stdout, text on stderr, exit 2', async (argv, message) => {
  const run = await cli([...argv, '--json'], { env });
  expect(run).toMatchObject({ code: 2, err: '' });
  expect(run.envelopes).toMatchObject([
    { ok: false, data: null, error: { code: 'USAGE', retryable: false } },
  ]);
  expect(run.envelopes[0]?.error?.message).toContain(message);
  const forPeople = await cli(argv, { env });
  expect(forPeople).toMatchObject({ code: 2, out: '' });
  expect(forPeople.err).toContain(message);
});

test('--quiet leaves only what is wrong', async () => {
  expect(await cli(['config', 'check', '-c', example, '--quiet'], { env })).toMatchObject({
    code: 0,
    out: '',
    err: '',
  });
  expect((await cli(['config', 'check', '-c', example, '--quiet'])).err).toContain('CONFIG_SECRET');
});

test('a wrong configuration names file, line, column, path and the nearest key, and exits 2', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', `${SMALLEST}copy:\n  wrokers: 3\n`);
  const run = await cli(['config', 'check', '-c', file, '--json']);
  expect(run.code).toBe(2);
  expect(run.envelopes).toMatchObject([
    {
      kind: 'ConfigCheck',
      ok: false,
      error: {
        code: 'CONFIG_INVALID',
        context: { issues: [{ path: 'copy.wrokers', file, line: 12, column: 3, nearest: 'workers' }] },
      },
    },
  ]);
  expect((await cli(['config', 'check', '-c', file])).err).toContain(
    `${file}:12:3 copy.wrokers: unknown key wrokers; nearest known key: workers`,
  );
});

test.each(
  COMMANDS.filter(({ name, group }) => group === undefined && !['init', 'version'].includes(name)).map(
    ({ name }) => name,
  ),
)('%s without a configuration file fails as CONFIG_NOT_FOUND with its own kind', async (name) => {
  const needs = name === 'wait' ? ['--for', 'gate=ready'] : [];
  const run = await cli([name, ...needs, '-c', '/nonexistent/v.yaml', '--json']);
  expect(run.code).toBe(2);
  expect(run.envelopes).toMatchObject([{ ok: false, error: { code: 'CONFIG_NOT_FOUND' } }]);
  expect(run.envelopes[0]?.kind).toBe(COMMANDS.find((spec) => spec.name === name)?.kind);
});

test.each([['pause'], ['resume'], ['verify'], ['verify', 'show'], ['cutover', '--dry-run']])(
  '%s %s without an engine is ENGINE_NOT_RUNNING',
  async (...argv) => {
    await using folder = await configFolder();
    const run = await cli([...argv, '-c', example, '--set', `server.state_dir=${folder.path}`, '--json'], {
      env,
    });
    expect(run.code).toBe(1);
    expect(run.envelopes).toMatchObject([
      { ok: false, error: { code: 'ENGINE_NOT_RUNNING' }, meta: { migration: 'shop-v2' } },
    ]);
  },
);

test('wait gives up after --timeout with 124', async () => {
  await using folder = await configFolder();
  const run = await cli(
    [
      'wait',
      '--for',
      'phase=replicating',
      '--timeout',
      '300ms',
      '-c',
      example,
      '--set',
      `server.state_dir=${folder.path}`,
      '--json',
    ],
    { env },
  );
  expect(run.code).toBe(124);
  expect(run.envelopes).toMatchObject([{ kind: 'Wait', ok: false, error: { code: 'TIMED_OUT' } }]);
});

test.each([
  [[], '--confirm shop-v2 and --plan FILE'],
  [['--yes'], '--confirm shop-v2 and --plan FILE'],
  [['--confirm', 'shop-v2'], '--plan FILE'],
  [['--plan', 'plan.json'], '--confirm shop-v2'],
  [['--confirm', 'other', '--plan', 'plan.json'], 'names another migration'],
])(
  'cutover %j without a terminal is refused with exit 2 and does not wait for an answer',
  async (argv, message) => {
    await using folder = await configFolder();
    const run = await cli(
      ['cutover', ...argv, '-c', example, '--set', `server.state_dir=${folder.path}`, '--json'],
      { env },
    );
    expect(run.code).toBe(2);
    expect(run.envelopes).toMatchObject([{ error: { code: 'CONFIRMATION' } }]);
    expect(run.envelopes[0]?.error?.message).toContain(message);
  },
);

test('an unreadable plan file is a usage error', async () => {
  await using folder = await configFolder();
  const notPlan = await folder.write('x.json', '{"a":1}');
  for (const plan of [join(folder.path, 'none.json'), notPlan, example]) {
    const run = await cli(['cutover', '--confirm', 'shop-v2', '--plan', plan, '-c', example, '--json'], {
      env,
    });
    expect(run).toMatchObject({ code: 2 });
    expect(run.envelopes).toMatchObject([{ error: { code: 'USAGE' } }]);
  }
});

test('servers that cannot be reached fail without their passwords', async () => {
  for (const name of ['plan', 'doctor', 'status', 'abort', 'events']) {
    const run = await cli([name, '-c', example, '--json', '-vv'], {
      env: { ...env, XDG_STATE_HOME: '/nonexistent' },
    });
    expect(run.code).toBe(1);
    expect(run.envelopes.at(-1)).toMatchObject({ ok: false, error: { retryable: true } });
    expect(run.out + run.err).not.toContain('c4n4ry-pass');
  }
});

test('every code has an exit code of the table, and the documented ones are these', () => {
  for (const code of Object.keys(CODES) as Code[])
    expect(EXIT_MEANINGS).toHaveProperty(String(exitCodeOf(code)));
  expect(exitCodeOf('CONFIG_INVALID')).toBe(2);
  expect(exitCodeOf('PREFLIGHT_FAILED')).toBe(3);
  expect(exitCodeOf('CUTOVER_GATE')).toBe(4);
  expect(exitCodeOf('VERIFY_DIFFERENT')).toBe(5);
  expect(exitCodeOf('CUTOVER_UNDONE')).toBe(6);
  expect(exitCodeOf('CUTOVER_UNDETERMINED')).toBe(7);
  expect(exitCodeOf('SOURCE_POSITION_LOST')).toBe(8);
  expect(exitCodeOf('STATE_LEASE_HELD')).toBe(9);
  expect(exitCodeOf('PLAN_STALE')).toBe(11);
  expect(exitCodeOf('TIMED_OUT')).toBe(124);
  expect(exitCodeOf('SINK_FAILED')).toBe(1);
});

test('the help pages are these', () => {
  const pages = helpPages();
  for (const [path, text] of Object.entries(pages)) {
    if (!['verdigris config', 'verdigris transform'].includes(path)) expect(text, path).toContain('Example:');
  }
  const text = Object.entries(pages)
    .map(([path, page]) => `===== ${path}\n${page}\n`)
    .join('\n');
  expect(text).toMatchSnapshot();
});
