import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { checkSources, LONG_LINES } from './support/architecture/rules.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LOOKED_AT = /\.(?:ts|js|css|html)$/;

function readSources(): Map<string, string> {
  const files = readdirSync(`${ROOT}src`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && LOOKED_AT.test(entry.name))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(ROOT.length))
    .toSorted();
  return new Map(files.map((file) => [file, readFileSync(ROOT + file, 'utf8')]));
}

describe('the sources', () => {
  const sources = readSources();

  it('were found', () => {
    expect([...sources.keys()]).toContain('src/core/source.ts');
    expect(sources.size).toBeGreaterThan(20);
  });

  it('keep the import rule and the habits that a machine can see', () => {
    const lines = checkSources(sources).map((one) => `${one.file}: ${one.rule}: ${one.detail}`);
    expect(lines.join('\n')).toBe('');
  });

  it('name the long files, which usually hold two ideas', () => {
    const long = [...sources].map(([file, text]) => ({ file, lines: text.split('\n').length }));
    for (const { file, lines } of long) if (lines > LONG_LINES) console.warn(`${file} has ${lines} lines`);
  });
});

/** The rules broken by one file among bystanders. */
function broken(file: string, text: string, others: Record<string, string> = {}): string[] {
  const sources = new Map(Object.entries({ ...BYSTANDERS, ...others, [file]: text }));
  return checkSources(sources).map((one) => one.rule);
}

const BYSTANDERS = {
  'src/index.ts': `export * from './core/table.ts';`,
  'src/core/table.ts': 'export interface Table { name: string }',
  'src/transform/compile.ts': 'export const compile = 1;',
  'src/pipeline/pump.ts': 'export const pump = 1;',
  'src/app/build.ts': 'export const build = 1;',
  'src/engines/postgres/index.ts': 'export const engine = 1;',
  'src/engines/postgres/source.ts': 'export const source = 1;',
  'src/engines/mysql/index.ts': 'export const engine = 1;',
  'src/proxies/haproxy/index.ts': 'export const proxy = 1;',
};

describe('the rules themselves', () => {
  it.each([
    ['a clean file', 'src/pipeline/batcher.ts', `import type { Table } from '../core/table.ts';`],
    [
      'the registry',
      'src/app/registry.ts',
      `export const load = { postgres: () => import('../engines/postgres/index.ts') };`,
    ],
    [
      'an engine with its driver',
      'src/engines/postgres/sink.ts',
      `import pg from 'pg';\n// pgoutput\nimport './source.ts';`,
    ],
    [
      'a proxy with a driver',
      'src/proxies/haproxy/admin.ts',
      `import pg from 'pg';\nconst a = 'postgres://';`,
    ],
    [
      'an example in a comment of core',
      'src/core/position.ts',
      '/* PostgreSQL says LSN */ export const a = 1;',
    ],
    [
      'words in a string',
      'src/verify/report.ts',
      `export const a = "import x from '../app/build.ts' process.env";`,
    ],
    [
      'a template',
      'src/verify/report.ts',
      'export const a = `${"}"} console.log ${{ b: 1 }.b} process.exit`;',
    ],
    [
      'a regular expression',
      'src/verify/report.ts',
      String.raw`export const a = /['"/]process.env/.test(''); // console.log`,
    ],
    ['the environment in app', 'src/app/load.ts', 'export const env = process.env;'],
  ])('let pass: %s', (_what, file, text) => {
    expect(broken(file, text)).toEqual([]);
  });

  it.each([
    ['layer', 'src/pipeline/a.ts', `import { compile } from '../transform/compile.ts';`],
    ['layer', 'src/core/a.ts', `import type { pump } from '../pipeline/pump.ts';`],
    ['layer', 'src/core/a.ts', `export type P = typeof import('../pipeline/pump.ts');`],
    ['layer', 'src/core/a.ts', `export { pump } from '../pipeline/pump.ts';`],
    ['layer', 'src/orchestrator/a.ts', `import {\n  build, // why\n} from '../app/build.ts';`],
    ['layer', 'src/cli/a.ts', `import { pump } from '../pipeline/pump.ts';`],
    ['layer', 'src/engines/mysql/a.ts', `await import('../../pipeline/pump.ts');`],
    ['engine import', 'src/engines/mysql/a.ts', `import { source } from '../postgres/source.ts';`],
    ['engine import', 'src/app/a.ts', `await import('../engines/mysql/index.ts');`],
    ['engine import', 'src/app/registry.ts', `import { engine } from '../engines/mysql/index.ts';`],
    ['engine import', 'src/app/registry.ts', `import type { engine } from '../engines/mysql/index.ts';`],
    ['engine import', 'src/app/registry.ts', `await import('../engines/postgres/source.ts');`],
    ['engine import', 'src/http/a.ts', `await import('../proxies/haproxy/index.ts');`],
    ['computed import', 'src/app/a.ts', 'await import(`../engines/${name}/index.ts`);'],
    ['unresolved import', 'src/app/a.ts', `import './gone.ts';`],
    ['core import', 'src/core/a.ts', `import { z } from 'zod';`],
    ['core import', 'src/core/a.ts', `import type { Readable } from 'node:stream';`],
    ['driver', 'src/app/a.ts', `import pg from 'pg';`],
    ['driver', 'src/engines/mysql/a.ts', `import pg from 'pg';`],
    ['node prefix', 'src/app/a.ts', `import fs from 'fs';`],
    ['process', 'src/pipeline/a.ts', 'export const a = process.env;'],
    ['process', 'src/http/a.ts', `process.once('exit', () => undefined);`],
    ['process', 'src/http/a.ts', `import { exit } from 'node:process';`],
    ['console', 'src/verify/a.ts', `console.log('x');`],
    ['default export', 'src/verify/a.ts', 'export default 1;'],
    ['barrel', 'src/verify/index.ts', 'export const a = 1;'],
    ['barrel', 'src/verify/a.ts', `export * from '../core/table.ts';`],
    ['barrel', 'src/app/a.ts', `import type { Table } from '../index.ts';`],
    ['not erasable', 'src/verify/a.ts', 'export enum A { B }'],
    ['engine word', 'src/verify/a.ts', '// as in Postgres\nexport const a = 1;'],
    ['engine word', 'src/verify/a.ts', `export const a = 'mariadb';`],
    ['engine word', 'src/http/dashboard/app.js', 'const mongoTables = 1;'],
    ['engine word', 'src/core/a.ts', `export const pgoutput = 1;`],
    ['engine word', 'src/engines/mysql/a.ts', '// unlike pgoutput\nexport const a = 1;'],
    ['engine word', 'src/proxies/haproxy/a.ts', `export const a = 'postgres';`],
    ['file name', 'src/verify/pageReader.ts', 'export const a = 1;'],
    ['file name', 'src/verify/row-utils.ts', 'export const a = 1;'],
    ['folder', 'src/extras/a.ts', 'export const a = 1;'],
    ['too long', 'src/verify/a.ts', '\n'.repeat(601)],
  ])('catch: %s in %s: %s', (rule, file, text) => {
    expect(broken(file, text)).toContain(rule);
  });

  it('catch a cycle, also of type imports', () => {
    const others = {
      'src/verify/a.ts': `import type { b } from './b.ts';`,
      'src/verify/b.ts': `import { c } from './c.ts';`,
    };
    expect(broken('src/verify/c.ts', `import type { a } from './a.ts';`, others)).toEqual(['cycle']);
    expect(broken('src/verify/c.ts', 'export const c = 1;', others)).toEqual([]);
  });
});
