import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../../src/app/config.ts';
import { errorsReference } from '../../../src/app/errors-reference.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { configJsonSchema } from '../../../src/app/schema.ts';

const file = (path: string): URL => new URL(`../../../${path}`, import.meta.url);

test('config/schema.json is what the sources generate (else: node scripts/docs.ts)', async () => {
  expect(JSON.parse(await readFile(file('config/schema.json'), 'utf8'))).toEqual(
    JSON.parse(JSON.stringify(await configJsonSchema())),
  );
});

test('docs/errors.md is what the sources generate (else: node scripts/docs.ts)', async () => {
  expect(await readFile(file('docs/errors.md'), 'utf8')).toBe(errorsReference());
});

interface Node {
  readonly properties?: Record<string, Node>;
  readonly items?: Node;
  readonly oneOf?: readonly Node[];
  readonly description?: string;
}

test('every key of the file has a description', async () => {
  const bare: string[] = [];
  const visit = (node: Node, path: string): void => {
    for (const [key, inner] of Object.entries(node.properties ?? {})) {
      if (inner.description === undefined && !path.includes('.tables')) bare.push(`${path}.${key}`);
      visit(inner, `${path}.${key}`);
    }
    if (node.items) visit(node.items, `${path}[]`);
    for (const branch of node.oneOf ?? []) visit(branch, path);
  };
  visit((await configJsonSchema()) as Node, '');
  expect(bare).toEqual([]);
});

test('every knob has a default, so that a file needs only what cannot be guessed', () => {
  const least = {
    version: 1,
    migration: 'a',
    blue: { engine: 'postgres' },
    green: { engine: 'postgres' },
    tables: [{ from: 'a.b' }],
  };
  expect(configSchema.safeParse(least).success).toBe(true);
});

test('the example is valid and reshapes rows', async () => {
  const path = file('config/postgres.example.yaml').pathname;
  const loaded = await loadConfig(path, {
    env: { BLUE_URL: 'postgres://a@localhost/b', GREEN_URL: 'postgres://a@localhost/g' },
  });
  expect(loaded.config.tables).toHaveLength(2);
  expect(loaded.warnings).toEqual([]);
  expect(parse(await readFile(path, 'utf8'))).toHaveProperty('tables');
});

test('the example of documents is valid', async () => {
  const loaded = await loadConfig(file('config/mongodb.example.yaml').pathname, {
    env: { BLUE_URL: 'mongodb://a@localhost', GREEN_URL: 'mongodb://a@localhost:2' },
  });
  expect(loaded.config.tables).toHaveLength(5);
  expect(loaded.warnings).toEqual([]);
});
