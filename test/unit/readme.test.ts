import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

const read = (name: string): Promise<string> => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('README shows the configuration that the tests run, to the letter', async () => {
  const readme = await read('README.md');
  const example = await read('config/postgres.example.yaml');
  const shown = /<!-- config\/postgres\.example\.yaml: begin -->\n\n```yaml\n(.*?)\n```\n\n<!--/s.exec(
    readme,
  )?.[1];
  expect(shown).toBe(example.trimEnd());
});

test('README opens with its two commands', async () => {
  const readme = await read('README.md');
  expect(readme.startsWith('```sh\nnpm ci && npm run demo\nnpm ci && npm test\n```\n')).toBe(true);
});
