import { expect, test } from 'vitest';
import fc from 'fast-check';
import { interpolate } from '../../../src/app/interpolate.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { editDistance, nearest } from '../../../src/app/nearest.ts';
import { parsePath, showPath } from '../../../src/app/path.ts';
import { configOrigins, planConfiguration } from '../../../src/app/show.ts';
import { settingsOf } from '../../../src/app/settings.ts';
import { configFolder, SMALLEST } from './write-config.ts';

const surroundings = { env: {}, folder: '/', allowExec: false };

test('interpolation knows its forms', async () => {
  await using folder = await configFolder();
  await folder.write('secret', 'from-file\n');
  const at = { env: { A: 'a', EMPTY: '' }, folder: folder.path, allowExec: false };
  const text = (template: string): unknown => {
    const outcome = interpolate(template, at);
    return 'problem' in outcome ? outcome : outcome.text;
  };
  expect(text('x${A}y${A}')).toBe('xaya');
  expect(text('${B:-d}${EMPTY:-e}')).toBe('de');
  expect(text('${EMPTY}')).toBe('');
  expect(text('$${A} $A')).toBe('${A} $A');
  expect(text('${file:secret}')).toBe('from-file');
  expect(text('${B}')).toEqual({ problem: 'the environment variable B is not set' });
  expect(text('${EMPTY:?say it}')).toEqual({ problem: 'the environment variable EMPTY is not set: say it' });
  expect(text('${file:nope}')).toHaveProperty('problem');
  expect(text('${A')).toHaveProperty('problem');
  expect(text('${cmd:echo hi}')).toEqual({ problem: '${cmd:…} runs a program and needs --allow-exec' });
  expect(interpolate('${cmd:echo hi}', { ...at, allowExec: true })).toEqual({
    text: 'hi',
    touched: true,
    secret: true,
  });
});

test('what is put in is never interpolated again', () => {
  const outcome = interpolate('${A}', { ...surroundings, env: { A: '${B}', B: 'secret' } });
  expect(outcome).toMatchObject({ text: '${B}' });
});

test('interpolation cannot change the structure, whatever the value is', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', `${SMALLEST}description: \${TEXT}\n`);
  const values = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'a: b',
      '# no comment',
      '{ x: 1 }',
      '[1]',
      'x\nmigration: evil',
      '&a',
      '*a',
      '! x',
      "'",
      '"',
      'null',
      '7',
      'true',
    ),
  );
  await fc.assert(
    fc.asyncProperty(values, async (value) => {
      const { config } = await loadConfig(file, { env: { TEXT: value } });
      expect(config.description).toBe(value);
      expect(config.migration).toBe('crm-v2');
    }),
    { numRuns: 40 },
  );
});

test('flags win over --set, environment, file and defaults, and each origin is known', async () => {
  await using folder = await configFolder();
  const file = await folder.write(
    'c.yaml',
    `${SMALLEST}copy: { workers: 2, max_held: 1MiB }\ngates: { max_rejects: 1, stable_for: 1s }\n`,
  );
  const loaded = await loadConfig(file, {
    env: {
      VERDIGRIS__COPY__WORKERS: '3',
      VERDIGRIS__GATES__MAX_REJECTS: '3',
      VERDIGRIS__GATES__STABLE_FOR: '3s',
      VERDIGRIS_CONFIG: 'x',
    },
    set: ['gates.max_rejects=4', 'gates.stable_for=4s', 'cutover.kill_blockers_after=null'],
    flags: new Map([['gates.stable_for', '5s']]),
  });
  expect(loaded.config.copy.workers).toBe(3);
  expect(loaded.config.gates).toMatchObject({ max_rejects: 4, stable_for: '5s' });
  const origins = Object.fromEntries(configOrigins(loaded).map(({ path, origin }) => [path, origin]));
  expect(origins).toMatchObject({
    'copy.workers': 'env VERDIGRIS__COPY__WORKERS',
    'copy.max_held': 'file:11',
    'gates.max_rejects': '--set gates.max_rejects',
    'gates.stable_for': 'flag gates.stable_for',
    'gates.max_commit_lag': 'default',
    'cutover.kill_blockers_after': '--set cutover.kill_blockers_after',
    'blue.url': 'file:5',
    'blue.limits.max_connections': 'default',
    'tables[0].from': 'file:10',
  });
  expect(settingsOf(loaded.config, null)).toMatchObject({
    copy: { workers: 3 },
    windowBytes: 2 ** 20,
    gates: { stableForMs: 5_000 },
    cutover: { killBlockersAfterMs: null, maxWritePauseMs: 10_000 },
  });
});

test('text becomes a number only where the schema wants one', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', `${SMALLEST}description: \${N}\ncopy:\n  workers: \${N}\n`);
  const { config } = await loadConfig(file, { env: { N: '5' }, set: ['blue.replication.streaming=true'] });
  expect(config.description).toBe('5');
  expect(config.copy.workers).toBe(5);
});

test('lists can be reached by number from the environment and from --set', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', SMALLEST);
  const { config } = await loadConfig(file, {
    env: { VERDIGRIS__TABLES__0__FROM: 'public.people' },
    set: ['tables[1].from=public.orders'],
  });
  expect(config.tables.map(({ from }) => from)).toEqual(['public.people', 'public.orders']);
  await expect(loadConfig(file, { env: {}, set: ['tables[7].from=x'] })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
  await expect(loadConfig(file, { env: {}, set: ['migration.x=1'] })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
});

test('a key called __proto__ is an unknown key and changes no object', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', `${SMALLEST}__proto__: { polluted: 1 }\n`);
  await expect(loadConfig(file, { env: {}, set: ['__proto__.polluted=2'] })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
});

test('the environment file is weaker than the environment', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', `${SMALLEST}description: \${A} \${B}\n`);
  const envFile = await folder.write('env', 'A=file\nB="from file"\n');
  const { config } = await loadConfig(file, { env: { A: 'env' }, envFile });
  expect(config.description).toBe('env from file');
});

test.each([
  ['postgres://app:literal-pw@localhost/old', 0o644, 1],
  ['postgres://app:literal-pw@localhost/old', 0o600, 0],
  ['postgres://app:${PW}@localhost/old', 0o644, 0],
  ['${URL:-postgres://app@localhost/old}', 0o644, 0],
])('a secret in a file that others may read is a warning: %s %o', async (url, mode, warnings) => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', SMALLEST.replace('postgres://app@localhost/old', url), mode);
  const loaded = await loadConfig(file, { env: { PW: 'x' } });
  expect(loaded.warnings).toHaveLength(warnings);
});

test('the part of the plan that is configuration ignores secrets, description and the socket', async () => {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', SMALLEST.replace('app@localhost/old', 'app:${PW}@localhost/old'));
  const salt = async (env: Record<string, string>, set: string[] = []): Promise<string> =>
    planConfiguration(await loadConfig(file, { env, set }));
  const first = await salt({ PW: 'one-password' });
  expect(first).not.toContain('one-password');
  expect(await salt({ PW: 'other-password' }, ['server.state_dir=/x', 'description=y'])).toBe(first);
  expect(await salt({ PW: 'one-password' }, ['apply.rejects.stop_after=5'])).not.toBe(first);
});

test('paths are shown as they can be written', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string({ minLength: 1 }), fc.nat(99)), { minLength: 1, maxLength: 5 }),
      (path) => {
        expect(parsePath(showPath(path))).toEqual(path);
      },
    ),
  );
});

test('the nearest key is the one that was meant', () => {
  expect(editDistance('wrokers', 'workers')).toBe(1);
  expect(nearest('max_conections', ['max_rows', 'max_connections'])).toBe('max_connections');
  expect(nearest('zzzzzz', ['workers', 'chunk'])).toBeNull();
});

test('a port from the environment is a number, whatever the same key of another proxy adapter takes', async () => {
  await using folder = await configFolder();
  const file = await folder.write(
    'verdigris.yaml',
    `${SMALLEST}cutover:
  proxies:
    - adapter: pgbouncer
      admin_url: postgres://admin@127.0.0.1:6432/pgbouncer
      ini: /etc/pgbouncer/databases.ini
      databases: [crm]
      blue: { host: 127.0.0.1, port: '\${BLUE_PORT}', dbname: crm }
      green: { host: 127.0.0.1, port: '\${GREEN_PORT}', dbname: crm }
`,
  );
  const { proxies } = await loadConfig(file, { env: { BLUE_PORT: '5433', GREEN_PORT: '5434' } });
  expect(proxies[0]?.config).toMatchObject({ blue: { port: 5433 }, green: { port: 5434 } });
});
