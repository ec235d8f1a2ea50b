import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newDir } from '../test/support/run-dir.ts';

/** A script for pgbench in a file that goes with this process. */
export async function script(text: string): Promise<string> {
  const file = join(await newDir('script'), 'script.sql');
  await writeFile(file, `${text}\n`);
  return file;
}
