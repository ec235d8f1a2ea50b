import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { waitFor } from '../support/wait.ts';

/**
 * Every named place where the engine may die between the first server object and steady replication. Killed there as by
 * SIGKILL, started again, it goes on where it was: done ranges stay as they are, and both sides are equal in the end.
 */
const FAILPOINTS = [
  'source.prepare.publication:exit',
  'source.prepare.slot:exit',
  'prepare.after-checkpoint:exit',
  'prepare.after-indexes-dropped:exit',
  'prepare.after-ranges:exit',
  'copying.entered:exit',
  'copy.window-open:exit@3',
  'copy.snapshot-taken:exit@4',
  'copy.rows-written:exit@5',
  'copy.before-close:exit@6',
  'copy.after-close:exit@7',
  'copying.rows-done:exit',
  'copying.indexes-done:exit',
  'apply.before-group:exit@20',
  'apply.after-commit-before-ack:exit@25',
  'sink.after-commit:exit@30',
];

const ROWS = 6_000;

const yaml = (blue: TestDatabase, green: TestDatabase): string => `version: 1
migration: kill
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
copy: { workers: 2, chunk: { max_rows: 500 } }
verify: { after_copy: "off" }
tables:
  - from: public.account
    to:
      - table: shop.account
        columns: { id: { from: id, cast: bigint }, owner: { from: name }, note: copy, cents: { from: balance, op: scale, factor: 100, cast: bigint } }
        drop: [extra]
  - from: public.entry
    to: [{ table: shop.entry }]
`;

const GREEN = `CREATE SCHEMA shop;
CREATE TABLE shop.account (id bigint PRIMARY KEY, owner text NOT NULL, note text, cents bigint NOT NULL);
CREATE INDEX account_owner ON shop.account (owner);
CREATE TABLE shop.entry (id bigint PRIMARY KEY, account int NOT NULL, amount numeric(12,2) NOT NULL);
ALTER TABLE shop.entry ADD FOREIGN KEY (account) REFERENCES shop.account (id);`;

async function seed(blue: TestDatabase): Promise<void> {
  await blue.query(
    `CREATE TABLE public.account (id int PRIMARY KEY, name text NOT NULL, note text, balance numeric(12,2) NOT NULL, extra int)`,
  );
  await blue.query(`ALTER TABLE public.account ALTER note SET STORAGE EXTERNAL`);
  await blue.query(
    `CREATE TABLE public.entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL REFERENCES public.account, amount numeric(12,2) NOT NULL)`,
  );
  await blue.query(
    `INSERT INTO public.account SELECT g, 'owner ' || g, repeat('n' || g, CASE WHEN g % 10 = 0 THEN 1500 ELSE 3 END), g, g FROM generate_series(1, $1::int) g`,
    [ROWS],
  );
  await blue.query('ANALYZE');
}

/** Transactions of every kind until it is told to stop; returns how many were acknowledged. */
function write(blue: TestDatabase): { stop: () => Promise<number> } {
  let stopped = false;
  const running = (async () => {
    const client = await blue.connect();
    let count = 0;
    for (let next = ROWS + 1; !stopped; next++) {
      const some = randomInt(1, ROWS + 1);
      await client.query('BEGIN');
      await client.query('INSERT INTO public.account VALUES ($1, $2, $3, $4)', [
        next,
        `new ${next}`,
        'x'.repeat(next % 7 === 0 ? 9000 : 5),
        1,
      ]);
      await client.query('UPDATE public.account SET balance = balance + 1 WHERE id = $1', [some]);
      await client.query(
        'INSERT INTO public.entry (account, amount) SELECT id, 1.25 FROM public.account WHERE id = $1',
        [some],
      );
      if (next % 3 === 0)
        await client.query(
          'UPDATE public.account SET id = -id WHERE id = $1 AND NOT EXISTS (SELECT FROM public.entry WHERE account = $1)',
          [next - 1],
        );
      if (next % 5 === 0)
        await client.query(
          'DELETE FROM public.account WHERE id = $1 AND NOT EXISTS (SELECT FROM public.entry WHERE account = $1)',
          [-(next - 3)],
        );
      await client.query('COMMIT');
      count += 1;
    }
    await client.end();
    return count;
  })();
  running.catch(() => undefined);
  return {
    stop: () => {
      stopped = true;
      return running;
    },
  };
}

const doneRanges = (green: TestDatabase) =>
  green
    .query<{ unit: string; ordinal: number; upto: string; rows: string }>(
      `SELECT unit, ordinal, upto, rows::text FROM verdigris.ranges WHERE upto IS NOT NULL ORDER BY unit, ordinal`,
    )
    .catch(() => []);

const state = async (db: TestDatabase, sql: readonly string[]): Promise<unknown[]> => {
  const found: unknown[] = [];
  for (const text of sql) found.push(await db.query(text));
  return found;
};
const BLUE_STATE = [
  `SELECT id, name AS owner, md5(note) AS note, (balance * 100)::bigint AS cents FROM public.account ORDER BY id`,
  `SELECT id, account, amount FROM public.entry ORDER BY id`,
];
const GREEN_STATE = [
  `SELECT id::int, owner, md5(note) AS note, cents FROM shop.account ORDER BY id`,
  `SELECT id, account, amount FROM shop.entry ORDER BY id`,
];

describe('killed anywhere between start and replication, it goes on where it was', () => {
  test.each(FAILPOINTS)(
    '%s',
    async (failpoint) => {
      await using blue = await createDatabase(16);
      await using green = await createDatabase(18);
      await seed(blue);
      await using place = await Workplace.create({ 'verdigris.yaml': yaml(blue, green), 'green.sql': GREEN });
      const writer = write(blue);
      const first = place.start({ failpoint });
      expect(await first.ended, first.output().slice(-2000)).toBe('SIGKILL');
      const done = await doneRanges(green);

      const second = place.start({ args: ['--takeover'] });
      await second.until('it replicates', (status) => status.phase === 'replicating');
      const after = await doneRanges(green);
      for (const range of done) expect(after).toContainEqual(range);
      expect(await writer.stop()).toBeGreaterThan(10);

      const [head] = await blue.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn');
      await waitFor(
        async () => {
          const [row] = await green.query<{ there: boolean }>(
            `SELECT position::pg_lsn >= $1::pg_lsn AS there FROM verdigris.checkpoint`,
            [head?.lsn],
          );
          return row?.there;
        },
        { what: 'the checkpoint covers the last write', timeoutMs: 30_000 },
      );
      expect(await state(green, GREEN_STATE)).toEqual(await state(blue, BLUE_STATE));
      expect(await second.kill('SIGTERM')).toBe(143);
    },
    90_000,
  );
});
