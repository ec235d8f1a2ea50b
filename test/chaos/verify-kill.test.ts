import { expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { waitFor } from '../support/wait.ts';

const ROWS = 3_000;
const FAULTS = [
  `UPDATE shop.account SET owner = 'x' WHERE id = 150`,
  'DELETE FROM shop.entry WHERE id = 2900',
  `INSERT INTO shop.entry VALUES (-1, 1, 1)`,
];
const FOUND = ['different id=150', 'extra id=-1', 'missing id=2900'];

const yaml = (blue: TestDatabase, green: TestDatabase, afterCopy: 'full' | 'off'): string => `version: 1
migration: vkill
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
copy: { workers: 2, chunk: { max_rows: 300 } }
apply: { heartbeat: 200ms }
verify: { after_copy: "${afterCopy}", recheck: { attempts: 5, delay: 100ms } }
tables:
  - from: public.account
    to: [{ table: shop.account, columns: { id: copy, owner: { from: name } } }]
  - from: public.entry
    to: [{ table: shop.entry }]
`;
const GREEN = `CREATE SCHEMA shop;
CREATE TABLE shop.account (id int PRIMARY KEY, owner text NOT NULL);
CREATE TABLE shop.entry (id int PRIMARY KEY, account int NOT NULL, amount int NOT NULL);`;

interface Shown {
  readonly ok: boolean;
  readonly rows: number;
  readonly mismatches: readonly { readonly kind: string; readonly key: Record<string, string> }[];
}

/**
 * Killed while it compares, before and after a step is stored: the next engine goes on with the same round, at the range where it
 * was, and the result is what a round without a crash gives.
 */
test.each(['verify.scanned:exit@4', 'verify.before-store:exit@7', 'verify.stored:exit@9'])(
  '%s',
  async (failpoint) => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query('CREATE TABLE public.account (id int PRIMARY KEY, name text NOT NULL)');
    await blue.query(
      'CREATE TABLE public.entry (id int PRIMARY KEY, account int NOT NULL, amount int NOT NULL)',
    );
    await blue.query(`INSERT INTO public.account SELECT g, 'name ' || g FROM generate_series(1, ${ROWS}) g`);
    await blue.query(`INSERT INTO public.entry SELECT g, g, g FROM generate_series(1, ${ROWS}) g`);
    await using place = await Workplace.create({
      'verdigris.yaml': yaml(blue, green, 'off'),
      'green.sql': GREEN,
    });
    const first = place.start({ failpoint });
    await first.until('it replicates', (status) => status.phase === 'replicating');
    await green.query(`SET verdigris.applier = 'vkill'`);
    for (const sql of FAULTS) await green.query(sql);
    const asked = place.run('verify');
    expect(await first.ended, first.output().slice(-2000)).toBe('SIGKILL');
    await asked;
    const stored = (): Promise<{ table_name: string; next: number; rows: string }[]> =>
      green.query('SELECT table_name, next, rows::text FROM verdigris.verify_table ORDER BY table_name');
    const before = await stored();
    expect(await green.query('SELECT number, state FROM verdigris.verify_round')).toMatchObject([
      { state: 'running' },
    ]);

    const second = place.start({ args: ['--takeover'] });
    await second.until(
      'the round to go on by itself and end',
      (status) => status.verify?.state === 'fail' || status.verify?.state === 'pass',
    );
    const { json } = await place.run('verify', 'show');
    const shown = json.data as Shown;
    expect(shown.mismatches.map(({ kind, key }) => `${kind} id=${key['id']}`).sort()).toEqual(FOUND);
    expect(shown.rows).toBe(2 * ROWS);
    // The same round: what was done was not done again.
    expect(await green.query('SELECT number::int, state FROM verdigris.verify_round')).toEqual([
      { number: 1, state: 'fail' },
    ]);
    const after = new Map((await stored()).map((table) => [table.table_name, table]));
    for (const table of before) expect(after.get(table.table_name)?.next).toBeGreaterThanOrEqual(table.next);

    const repaired = await place.run('verify', 'repair');
    expect(repaired.code, repaired.text).toBe(0);
    expect(repaired.json.data).toMatchObject({ repaired: 3, refused: [], report: { ok: true } });
    await waitFor(async () => (await green.query('SELECT FROM shop.entry WHERE id = -1')).length === 0, {
      what: 'the extra row to be gone',
    });
    expect(await second.kill('SIGTERM')).toBe(143);
  },
  120_000,
);
