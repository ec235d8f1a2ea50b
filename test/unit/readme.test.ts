import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../src/app/config.ts';

const read = (name: string): Promise<string> => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('README shows the configuration that the tests run, to the letter', async () => {
  const readme = await read('README.md');
  const example = await read('config/postgres.example.yaml');
  const shown = /<!-- config\/postgres\.example\.yaml: begin -->\n\n```yaml\n(.*?)\n```\n\n<!--/s.exec(
    readme,
  )?.[1];
  expect(shown).toBe(example.trimEnd());
});

test('the switch settings that README shows are valid', async () => {
  const shown = /<!-- switch settings: begin -->\n\n```yaml\n(.*?)\n```\n\n<!--/s.exec(
    await read('README.md'),
  )?.[1];
  const example = parse(await read('config/postgres.example.yaml')) as Record<
    string,
    Record<string, unknown>
  >;
  const settings = parse(shown ?? '') as Record<string, Record<string, unknown>>;
  const cutover = { ...example['cutover'], ...settings['cutover'] };
  const config = configSchema.parse({ ...example, ...settings, cutover });
  expect(config.gates.approvals).toEqual({ count: 2, roles: ['dba', 'oncall'] });
  expect(config.cutover.windows).toMatchObject([{ name: 'saturday', timezone: 'Europe/Berlin' }]);
});

test('README opens with its two commands', async () => {
  const readme = await read('README.md');
  expect(readme.startsWith('```sh\nnpm ci && npm run demo\nnpm ci && npm test\n```\n')).toBe(true);
});
