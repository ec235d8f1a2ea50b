import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parseFailpoints } from '../../../src/app/failpoints.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';

const source = (path: string): string =>
  JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
const run = (code: string) =>
  spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
  });

test('no failpoint costs nothing', () => {
  expect(parseFailpoints(undefined)).toBe(NO_FAILPOINTS);
  expect(parseFailpoints('')).toBe(NO_FAILPOINTS);
});

test('throw acts the n-th time and only then', () => {
  const points = parseFailpoints('a.b:throw@2,other:hang');
  expect(points.hit('a.b')).toBeUndefined();
  expect(points.hit('nobody')).toBeUndefined();
  expect(() => points.hit('a.b')).toThrow('failpoint a.b');
  expect(points.hit('a.b')).toBeUndefined();
});

test.each(['a', 'a:die', ':throw', 'a:throw@x', 'a:throw,,b:hang'])('%s is refused', (text) => {
  expect(() => parseFailpoints(text)).toThrow(/name:action/);
});

test('exit dies by SIGKILL and nothing after it runs', async () => {
  const child = run(`
    const { parseFailpoints } = await import(${source('app/failpoints.ts')});
    process.on('exit', () => process.stdout.write('exit handler'));
    await parseFailpoints('x:exit').hit('x');
    process.stdout.write('went on');
  `);
  let out = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  expect({ code, signal, out }).toEqual({ code: null, signal: 'SIGKILL', out: '' });
});

test('stop freezes the process until it is continued', async () => {
  const child = run(`
    const { parseFailpoints } = await import(${source('app/failpoints.ts')});
    process.stdout.write('before ');
    await parseFailpoints('x:stop').hit('x');
    process.stdout.write('after');
  `);
  let out = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  const stopped = async (): Promise<boolean> => {
    const { promise, resolve } = Promise.withResolvers<string>();
    execFile('ps', ['-o', 'stat=', '-p', String(child.pid)], (_error, text) => resolve(text));
    return (await promise).startsWith('T');
  };
  await expect.poll(stopped, { timeout: 20_000 }).toBe(true);
  expect(out).toBe('before ');
  child.kill('SIGCONT');
  await once(child, 'close');
  expect(out).toBe('before after');
});

const shutdown = (close: string): string => `
  const { onShutdown } = await import(${source('app/shutdown.ts')});
  onShutdown({ close: async (signal) => { process.stdout.write('closing ' + signal + ' '); ${close} } });
  setInterval(() => undefined, 1_000);
  process.stdout.write('ready ');
`;

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s closes and exits %i', async (signal, expected) => {
  const child = run(shutdown(`process.stdout.write('closed');`));
  let out = '';
  child.stdout.on('data', (part: Buffer) => {
    out += part.toString();
    if (out === 'ready ') child.kill(signal);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  expect({ code, out }).toEqual({ code: expected, out: `ready closing ${signal} closed` });
});

test('a second signal does not wait for a close that hangs', async () => {
  const child = run(shutdown('await new Promise(() => undefined);'));
  let out = '';
  child.stdout.on('data', (part: Buffer) => {
    out += part.toString();
    if (out === 'ready ') child.kill('SIGTERM');
    else if (out.endsWith('closing SIGTERM ')) child.kill('SIGINT');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  expect(code).toBe(130);
});
