import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { loadProxyAdapter } from '../../../src/index.ts';

const root = new URL('../../../', import.meta.url);
const json = async (name: string): Promise<unknown> =>
  JSON.parse(await readFile(new URL(name, root), 'utf8'));

test('the contract suite that the package exports is built, from a file that is there', async () => {
  const { exports } = (await json('package.json')) as { exports: Record<string, Record<string, string>> };
  const { include } = (await json('tsconfig.build.json')) as { include: string[] };
  for (const path of Object.values(exports['./contract/proxy'] ?? {})) {
    const source = path.replace(/^\.\/dist\//, '').replace(/(?:\.d\.ts|\.js)$/, '.ts');
    expect(existsSync(new URL(source, root))).toBe(true);
    expect(include).toContain(source);
  }
  expect(Object.keys(exports['./contract/proxy'] ?? {})).toEqual(['types', 'default']);
});

test('an adapter of a configuration entry, for whoever runs the suite; what is wrong in it is said', async () => {
  await using proxy = (await loadProxyAdapter('memory'))({});
  expect(await proxy.observe(AbortSignal.timeout(1_000))).toEqual({ to: 'blue', paused: false });
  await expect(loadProxyAdapter('nginx')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  const command = await loadProxyAdapter('command');
  expect(() => command({ command: [] })).toThrow(
    expect.objectContaining({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('command') as unknown,
    }) as Error,
  );
});
