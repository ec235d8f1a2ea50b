import { chmod, chown } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withPlaces } from '../../../src/app/mapping-issues.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { loadModules } from '../../../src/app/modules.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import { configFolder, SMALLEST } from '../config/write-config.ts';

const mapping = (module: string, name?: string) => [
  {
    from: 'a.b',
    to: [{ table: 'a.c', columns: { x: { module, ...(name === undefined ? {} : { export: name }) } } }],
  },
];

test('a TypeScript module beside the configuration is loaded', async () => {
  await using folder = await configFolder();
  await folder.write(
    't.ts',
    'export const up = (row: { x: string }): string => row.x.toUpperCase();\nexport default (): number => 1;\n',
  );
  const functions = await loadModules(
    [...mapping('./t.ts', 'up'), ...mapping('./t.ts')],
    join(folder.path, 'c.yaml'),
  );
  expect([...functions.keys()]).toEqual(['./t.ts#up', './t.ts#default']);
  expect(functions.get('./t.ts#up')?.({ x: 'a' })).toBe('A');
});

test('a file that others may write is refused', async () => {
  await using folder = await configFolder();
  const file = await folder.write('t.ts', 'export default () => 1;');
  for (const mode of [0o620, 0o602]) {
    await chmod(file, mode);
    await expect(loadModules(mapping('./t.ts'), join(folder.path, 'c.yaml'))).rejects.toMatchObject({
      code: 'CONFIG_MODULE',
      message: /may be written by others/,
    });
  }
});

test.skipIf(process.getuid?.() !== 0)('a file of another user is refused', async () => {
  await using folder = await configFolder();
  const file = await folder.write('t.ts', 'export default () => 1;', 0o644);
  await chown(file, 65_534, 65_534);
  await expect(loadModules(mapping('./t.ts'), join(folder.path, 'c.yaml'))).rejects.toMatchObject({
    code: 'CONFIG_MODULE',
    message: /another user/,
  });
});

test('what is missing is named: the file, the export, the functions there are', async () => {
  await using folder = await configFolder();
  await folder.write('t.ts', 'export const up = () => 1; export const n = 2;');
  const at = join(folder.path, 'c.yaml');
  await expect(loadModules(mapping('./none.ts'), at)).rejects.toMatchObject({
    code: 'CONFIG_MODULE',
    message: /ENOENT/,
  });
  await expect(loadModules(mapping('./t.ts', 'down'), at)).rejects.toMatchObject({
    message: './t.ts exports no function down; it has: up',
  });
});

test('a mapping that does not fit the tables is reported with file, line and column', async () => {
  await using folder = await configFolder();
  const file = await folder.write(
    'c.yaml',
    `${SMALLEST}    to:\n      - table: crm.c\n        columns:\n          x: { from: nope }\n`,
  );
  const loaded = await loadConfig(file, { env: {} });
  const thrown = new VerdigrisError('MAPPING_INVALID', 'wrong', {
    context: {
      issues: [{ path: ['tables', 0, 'to', 0, 'columns', 'x', 'from'], message: 'no such column' }],
    },
  });
  const shown = withPlaces(thrown, loaded);
  expect(shown).toBeInstanceOf(VerdigrisError);
  expect(shown).toMatchObject({ code: 'MAPPING_INVALID' });
  expect((shown as VerdigrisError).message).toContain(
    `${file}:14:22 tables[0].to[0].columns.x.from: no such column`,
  );
});
