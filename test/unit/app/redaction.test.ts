import fc from 'fast-check';
import { expect, test } from 'vitest';
import { envelope } from '../../../src/app/envelope.ts';
import { createLogger } from '../../../src/app/logger.ts';
import { collectSecrets, maskText, Redactor } from '../../../src/app/redact.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';

const CANARY = 'c4n4ry p/w:@#"%é';
const URL_WITH_CANARY = `postgres://app:${encodeURIComponent(CANARY)}@db.example:5432/shop`;

/** Every form in which the canary could be seen. */
const FORMS = [CANARY, encodeURIComponent(CANARY), JSON.stringify(CANARY).slice(1, -1)];
const expectNoCanary = (text: string): void => {
  for (const form of FORMS) expect(text).not.toContain(form);
};

const redactor = new Redactor(collectSecrets({ blue: { url: URL_WITH_CANARY } }));

test.each(['text', 'json'] as const)('the canary does not pass the logger (%s)', (format) => {
  const lines: string[] = [];
  const log = createLogger({ level: 'debug', format, redactor, write: (line) => lines.push(line) });
  const cause = Object.assign(new Error(`no pg_hba entry, connection string ${URL_WITH_CANARY}`), {
    code: '28000',
    detail: `Key (password)=(${CANARY})`,
    client: { connectionParameters: { password: CANARY } },
  });
  const error = new VerdigrisError('SOURCE_CONNECT', `cannot connect to ${URL_WITH_CANARY}`, {
    cause,
    context: { url: URL_WITH_CANARY },
  });
  log.error(
    {
      error,
      url: URL_WITH_CANARY,
      password: CANARY,
      deep: [{ a: { token: 'abc', note: `it is ${CANARY}` } }],
    },
    `failed with ${CANARY}`,
  );
  log.child({ dsn: URL_WITH_CANARY }).info({ map: new Map([['k', CANARY]]) }, URL_WITH_CANARY);
  expect(lines).toHaveLength(2);
  expectNoCanary(lines.join(''));
  // The log is still of use.
  expect(lines[0]).toContain('SOURCE_CONNECT');
  expect(lines[0]).toContain('db.example');
  expect(lines[0]).toContain('28000');
});

test('a log line is one line in both formats', () => {
  const lines: string[] = [];
  const log = createLogger({ level: 'info', format: 'text', redactor, write: (line) => lines.push(line) });
  log.info({ table: 'x"; drop\ntable', n: 1 }, 'copied');
  expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {2}copied table="x\\"; drop\\ntable" n=1\n$/);
});

test('the canary does not pass the envelope', () => {
  const error = new VerdigrisError('SOURCE_CONNECT', `cannot connect to ${URL_WITH_CANARY}`, {
    remedy: `try psql '${URL_WITH_CANARY}'`,
    context: { url: URL_WITH_CANARY, options: { password: CANARY } },
  });
  const made = envelope({
    kind: 'Status',
    data: null,
    error,
    warnings: [URL_WITH_CANARY],
    migration: 'a',
    version: '1',
    redactor,
  });
  expectNoCanary(JSON.stringify(made));
});

test('passwords of any address are masked although nobody told of them', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }).map(encodeURIComponent),
      fc.constantFrom('postgres', 'mysql', 'mongodb+srv', 'https'),
      (password, scheme) => {
        const text = maskText(`x ${scheme}://user:${password}@host/db y`);
        expect(text).toBe(`x ${scheme}://user:****@host/db y`);
      },
    ),
  );
  expect(maskText('postgres://u:p@ss@h/d')).toBe('postgres://u:****@h/d');
  expect(maskText('postgres://:secret@h/d')).toBe('postgres://:****@h/d');
  expect(maskText("host=h password='two words' user=u")).toBe('host=h password=**** user=u');
  expect(maskText('postgres://u:a/b@h/d')).toBe('postgres://u:****@h/d');
  expect(maskText('redis://h:6379/0 and a@b and http://h:80/a')).toBe(
    'redis://h:6379/0 and a@b and http://h:80/a',
  );
});

test('keys of secrets are masked, names of the files that hold them are not', () => {
  const shown = redactor.value({
    adminPassword: 'x',
    token_file: '/run/t',
    api_key: 'k',
    key: 'id',
    slack: { webhook_secret: 's' },
  });
  expect(shown).toEqual({
    adminPassword: '****',
    token_file: '/run/t',
    api_key: '****',
    key: 'id',
    slack: { webhook_secret: '****' },
  });
});

test('the secret of a hash operation is masked, the key of a table is not', () => {
  expect(redactor.value({ columns: { x: { op: 'hash', key: 'pepper' } }, key: ['id'] })).toEqual({
    columns: { x: { op: 'hash', key: '****' } },
    key: ['id'],
  });
});

test('structures that refer to themselves end', () => {
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  expect(JSON.stringify(redactor.value(loop))).toContain('[deep]');
});
