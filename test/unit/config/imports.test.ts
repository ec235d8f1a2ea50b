import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

import { newDir } from '../../support/run-dir.ts';

const LOAD = new URL('../../../src/app/load.ts', import.meta.url).href;
const DRIVERS = ['mongodb', 'mysql2', 'pg'];

/** Drivers that a process has loaded once it has read this configuration. */
async function driversOf(yaml: string): Promise<string[]> {
  const dir = await newDir('imports');
  await writeFile(`${dir}/verdigris.yaml`, yaml);
  const script = `
    import { registerHooks } from 'node:module';
    const found = new Set();
    registerHooks({
      resolve(name, context, next) {
        if (${JSON.stringify(DRIVERS)}.includes(name)) found.add(name);
        return next(name, context);
      },
    });
    const { loadConfig } = await import(${JSON.stringify(LOAD)});
    await loadConfig(${JSON.stringify(`${dir}/verdigris.yaml`)}, { env: {} }).catch((error) => console.error(error.message));
    console.log(JSON.stringify([...found]));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    env: { PATH: process.env['PATH'] },
  });
  return (JSON.parse(stdout) as string[]).toSorted();
}

const config = (engine: string, url: string): string =>
  `version: 1\nmigration: m\nblue: { engine: ${engine}, url: "${url}" }\ngreen: { engine: ${engine}, url: "${url}2" }\ntables: [{ from: a.b }]\n`;

test('drivers of engines that a configuration does not name are not loaded', async () => {
  expect(await driversOf(config('mongodb', 'mongodb://h/'))).toEqual(['mongodb']);
  expect(await driversOf(config('postgres', 'postgres://h/'))).toEqual(['pg']);
});

test('a configuration that names none is still read against all of them', async () => {
  expect(await driversOf(config('orakel', 'x://h/'))).toEqual(DRIVERS);
});
