import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/app/load.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import { configFolder, SMALLEST } from './write-config.ts';

interface Found {
  readonly path: string;
  readonly message: string;
  readonly line: number | null;
  readonly column: number | null;
  readonly nearest: string | null;
}

async function problems(
  text: string,
  options: Parameters<typeof loadConfig>[1] = {},
): Promise<{ error: VerdigrisError; issues: Found[] }> {
  await using folder = await configFolder();
  const file = await folder.write('c.yaml', text);
  const error = await loadConfig(file, { env: {}, ...options }).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof VerdigrisError)) throw new Error(`no VerdigrisError but ${String(error)}`);
  const issues = (error.context['issues'] ?? []) as Found[];
  // What is in the context must also be readable in the message: file:line:column path.
  for (const { line, column, path } of issues) {
    if (line !== null && path !== '(root)')
      expect(error.message).toContain(`${file}:${line}:${column} ${path}: `);
  }
  return { error, issues };
}

const withLine = (line: string): string => `${SMALLEST}${line}\n`;

test('the smallest file is valid', async () => {
  await using folder = await configFolder();
  const loaded = await loadConfig(await folder.write('c.yaml', SMALLEST), { env: {} });
  expect(loaded.config.migration).toBe('crm-v2');
  expect(loaded.warnings).toEqual([]);
});

test.each([
  ['top level', withLine('throtle: []'), 'throtle', 11, 1, 'throttle'],
  ['nested', withLine('copy: { wrokers: 3 }'), 'copy.wrokers', 11, 9, 'workers'],
  ['of the engine', SMALLEST.replace('/old\n', '/old\n  limts: {}\n'), 'blue.limts', 6, 3, 'limits'],
  [
    'deep in the engine',
    SMALLEST.replace('/old\n', '/old\n  limits: { max_conections: 9 }\n'),
    'blue.limits.max_conections',
    6,
    13,
    'max_connections',
  ],
  ['of the mapping', withLine('    too: []'), 'tables[0].too', 11, 5, 'to'],
  [
    'of a column of the mapping',
    withLine('    to: [{ table: a.b, columns: { x: { form: y } } }]'),
    'tables[0].to[0].columns.x.form',
    11,
    40,
    'from',
  ],
  [
    'of a proxy',
    withLine('cutover:\n  proxies:\n    - adapter: pgbouncer\n      admin_ulr: x'),
    'cutover.proxies[0].admin_ulr',
    14,
    7,
    'admin_url',
  ],
  [
    'of green written under blue',
    SMALLEST.replace('/old\n', '/old\n  schema_file: x.sql\n'),
    'blue.schema_file',
    6,
    3,
    null,
  ],
])(
  'an unknown key %s is refused with its place and the nearest known key',
  async (_, text, path, line, column, nearest) => {
    const { error, issues } = await problems(text);
    expect(error.code).toBe('CONFIG_INVALID');
    const found = issues.find((issue) => issue.path === path);
    expect(found).toMatchObject({ line, column });
    if (nearest !== null) expect(found?.nearest).toBe(nearest);
  },
);

test('a wrong type names the place of the value', async () => {
  const { issues } = await problems(withLine('copy:\n  workers: many'));
  expect(issues).toMatchObject([
    { path: 'copy.workers', line: 12, column: 12, message: 'expected number, received string' },
  ]);
});

test('a bad duration and a bad size say what they should look like', async () => {
  const { issues } = await problems(withLine('apply:\n  heartbeat: 5 minutes\n  max_transaction: 12'));
  expect(issues).toMatchObject([
    {
      path: 'apply.heartbeat',
      line: 12,
      column: 14,
      message: 'not a duration (examples: 500ms, 30s, 1h30m)',
    },
    { path: 'apply.max_transaction', line: 13, column: 20 },
  ]);
});

test('a window that never opens, a zone that is none, two windows of one name, and roles that nobody could fill', async () => {
  const { issues } = await problems(
    withLine(
      [
        'cutover:',
        '  windows:',
        "    - { name: a, cron: '0 2 31 2 *', duration: 2h }",
        "    - { name: b, cron: '0 2 * * 6', duration: 2h, timezone: Europe/Nowhere }",
        "    - { name: b, cron: '0 2 * * *', duration: soon }",
        'gates: { approvals: { count: 1, roles: [dba, oncall] } }',
      ].join('\n'),
    ),
  );
  const found = new Map(issues.map(({ path, message }) => [path, message]));
  expect(found.get('cutover.windows[0].cron')).toContain('not five fields of cron');
  expect(found.get('cutover.windows[1].timezone')).toContain('not a time zone');
  expect(found.get('cutover.windows[2].duration')).toContain('not a duration');
  expect(found.get('gates.approvals.roles')).toContain('more roles than people');
  const names = await problems(
    withLine(
      "cutover: { windows: [{ name: b, cron: '0 2 * * *', duration: 1h }, { name: b, cron: '0 3 * * *', duration: 1h }] }",
    ),
  );
  expect(names.issues).toMatchObject([
    { path: 'cutover.windows', message: 'two windows have the same name' },
  ]);
});

test('a key that is there twice is refused, not taken last', async () => {
  const { issues } = await problems(withLine('migration: other'));
  expect(issues).toMatchObject([{ line: 11, column: 1, message: 'the key migration is there twice' }]);
});

test('broken YAML names its place', async () => {
  const { error, issues } = await problems('version: 1\nblue: [\n');
  expect(error.code).toBe('CONFIG_INVALID');
  expect(issues[0]?.line).toBeGreaterThanOrEqual(2);
  expect(issues[0]?.message).toMatch(/^not valid YAML/);
});

test('a missing key names the map it is missing in', async () => {
  const { issues } = await problems(SMALLEST.replace('  url: postgres://app@localhost/new\n', ''));
  expect(issues).toMatchObject([{ path: 'green.url', line: 6, column: 1 }]);
});

test('a missing environment variable names its place and is CONFIG_SECRET', async () => {
  const { error, issues } = await problems(
    SMALLEST.replace('postgres://app@localhost/new', '${GREEN:?set GREEN}'),
  );
  expect(error.code).toBe('CONFIG_SECRET');
  expect(issues).toMatchObject([
    {
      path: 'green.url',
      line: 8,
      column: 8,
      message: 'the environment variable GREEN is not set: set GREEN',
    },
  ]);
});

test('an unknown engine and an unknown adapter name the known ones', async () => {
  const { issues } = await problems(
    `${SMALLEST.replace('engine: postgres', 'engine: postgers')}cutover: { proxies: [{ adapter: pgbounce }] }\n`,
  );
  expect(issues.map(({ path }) => path)).toEqual(['blue.engine', 'cutover.proxies[0].adapter']);
  expect(issues[0]?.message).toContain('postgres');
  expect(issues[1]?.message).toContain('pgbouncer');
});

test('all problems are reported at once, in the order of the file', async () => {
  const text = `${SMALLEST.replace('version: 1', 'version: 2').replace('crm-v2', 'CRM v2')}copy: { workers: 0 }\nnope: 1\ngates: { stable_for: 3 }\n`;
  const { issues } = await problems(text, { set: ['apply.heartbeat=x'] });
  expect(issues.map(({ path }) => path)).toEqual([
    'apply.heartbeat',
    'version',
    'migration',
    'copy.workers',
    'nope',
    'gates.stable_for',
  ]);
});

test('a number with more digits than a number can keep is refused', async () => {
  const { issues } = await problems(
    withLine('    to: [{ table: a.b, columns: { x: { value: 12345678901234567890 } } }]'),
  );
  expect(issues[0]).toMatchObject({
    line: 11,
    message: 'the number has more digits than can be kept; write it in quotes',
  });
});

test('aliases that double again and again are refused, not expanded', async () => {
  const levels = Array.from({ length: 30 }, (_, i) => `x${i + 1}: &x${i + 1} [*x${i}, *x${i}]`);
  const { issues } = await problems(withLine(`x0: &x0 [a, a]\n${levels.join('\n')}`));
  expect(issues.some(({ message }) => message.includes('aliases'))).toBe(true);
});

test('a file that does not exist is CONFIG_NOT_FOUND', async () => {
  await expect(loadConfig('/nonexistent/verdigris.yaml', { env: {} })).rejects.toMatchObject({
    code: 'CONFIG_NOT_FOUND',
  });
});

test('messages never hold a value of the file', async () => {
  const { error } = await problems(
    `${SMALLEST.replace('postgres://app@localhost/old', 'mysql://app:canary-7f3c@localhost/old')}copy: { workers: canary-7f3c }\n`,
  );
  expect(JSON.stringify({ message: error.message, context: error.context })).not.toContain('canary-7f3c');
});
