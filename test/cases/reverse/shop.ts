import { readFile } from 'node:fs/promises';
import { parse, stringify } from 'yaml';
import { Run } from '../../support/run.ts';
import { fill } from '../../demo/postgres/seed.ts';

const demo = async (name: string): Promise<string> =>
  await readFile(new URL(`../../demo/postgres/${name}`, import.meta.url), 'utf8');
/** Rights of the demo's clients: the role is not there. */
const withoutRoles = (sql: string): string => sql.replaceAll(/^(GRANT|ALTER ROLE) .*;$/gm, '');

/** The demo's shop with the demo's mapping, copied to green; the engine is stopped. */
export async function copiedShop(scale: number): Promise<Run> {
  const { tables } = parse(await demo('verdigris.yaml')) as { readonly tables: unknown };
  const run = await Run.create({
    blue: withoutRoles(await demo('blue.sql')),
    green: withoutRoles(await demo('green.sql')),
    tables: stringify(tables),
    settings: 'copy: { workers: 2, chunk: { max_rows: 20000 } }',
  });
  try {
    await fill(run.blue.client, scale);
    // What the mapping tells less about than there is: members of an element that green has no column for, and names with spaces.
    await run.blue.query(`UPDATE orders SET items = jsonb_set(items, '{0,gift}', 'true') WHERE id % 13 = 0;
      UPDATE customers SET full_name = ' J.  Smith ' || id WHERE id % 17 = 0`);
    await run.start();
    await run.settled(120_000);
    await run.stop();
    return run;
  } catch (error) {
    await run[Symbol.asyncDispose]();
    throw error;
  }
}
