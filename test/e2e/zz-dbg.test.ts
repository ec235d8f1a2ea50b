import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { run } from './cli-run.ts';
test('dbg', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await blue.query('create table a (id int primary key)');
  await green.query('create table a (id int primary key)');
  await using w = await Workplace.create({ 'verdigris.yaml': `version: 1\nmigration: a\nblue: { engine: postgres, url: "${blue.url}" }\ngreen: { engine: postgres, url: "${green.url}" }\ntables: [{ from: public.a }]\n` });
  const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
  const one = async (...argv: string[]) => {
    const here = await run(w, ...argv, '--json');
    const there = execFileSync(process.execPath, [main, ...argv, '-c', w.file, '--json']).toString();
    const a = (here.envelopes[0] as any).data, b = JSON.parse(there).data;
    expect(a).toEqual(b);
  };
  await one('config', 'show');
  await one('plan');
});
