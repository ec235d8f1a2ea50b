import fc from 'fast-check';
import type pg from 'pg';
import { describe, test } from 'vitest';
import { Run } from '../support/run.ts';

/**
 * Random transactions that move unique values and keys between rows. Whatever the size of a group, of a part of a transaction, or the
 * state of the copy: green ends as a plain replay does, and a plain replay of blue's log is blue.
 */

const ROWS = 400;

/** Both tables have toasted values that most changes leave alone. `slot.pos` is deferrable on blue and plain on green. */
const tables = (deferrable: string): string => `
  CREATE TABLE public.item (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int NOT NULL, big text);
  ALTER TABLE public.item ALTER big SET STORAGE EXTERNAL;
  CREATE TABLE public.slot (id int PRIMARY KEY, pos int NOT NULL UNIQUE ${deferrable}, big text);
  ALTER TABLE public.slot ALTER big SET STORAGE EXTERNAL;`;
const FILL = `
  INSERT INTO public.item SELECT g, 'code ' || g, 0, repeat('b' || g, 700) FROM generate_series(1, ${ROWS}) g;
  INSERT INTO public.slot SELECT g, g * 10, repeat('s' || g, 700) FROM generate_series(1, 12) g;`;

const KINDS = [
  'swap codes',
  'swap keys',
  'chain of keys',
  'key away and back',
  'delete and re-insert',
  're-insert with another code',
  'code of a deleted row',
  'insert, change, move, delete',
  'touch',
  'new big value',
  'rolled back part',
  'move all positions',
  'swap positions',
  'position of a deleted row',
  'key of a slot',
] as const;
interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly a: number;
  readonly b: number;
}
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...KINDS),
  // Mostly the same few rows, so that changes meet; sometimes rows all over the ranges of the copy.
  a: fc.oneof({ weight: 3, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(ROWS) }),
  b: fc.oneof({ weight: 3, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(ROWS) }),
});
const transaction = fc.array(step, { minLength: 1, maxLength: 6 });

let fresh = 100_000;

async function perform(client: pg.Client, { kind, a, b }: Step): Promise<void> {
  const table = kind.includes('position') || kind.includes('slot') ? 'slot' : 'item';
  const { rows } = await client.query<{ id: number; code: string; pos: number }>(
    `SELECT * FROM public.${table} ORDER BY id`,
  );
  const one = rows[a % rows.length];
  const other = rows[b % rows.length];
  if (one === undefined || other === undefined || rows.length < 4) return;
  const run = async (...statements: readonly (readonly [string, ...unknown[]])[]): Promise<void> => {
    for (const [text, ...values] of statements) await client.query(text, values);
  };
  fresh += 1;
  switch (kind) {
    case 'swap codes':
      if (one.id === other.id) return;
      return run(
        ['UPDATE public.item SET code = $1 WHERE id = $2', `tmp ${fresh}`, one.id],
        ['UPDATE public.item SET code = $1 WHERE id = $2', one.code, other.id],
        ['UPDATE public.item SET code = $1 WHERE id = $2', other.code, one.id],
      );
    case 'swap keys':
      if (one.id === other.id) return;
      return run(
        ['UPDATE public.item SET id = $1 WHERE id = $2', -fresh, one.id],
        ['UPDATE public.item SET id = $1 WHERE id = $2', one.id, other.id],
        ['UPDATE public.item SET id = $1 WHERE id = $2', other.id, -fresh],
      );
    case 'chain of keys':
      // Every key moves to the one its neighbour leaves.
      return run(
        ['UPDATE public.item SET id = $1 WHERE id = $2', -fresh, rows[0]?.id],
        ...rows
          .slice(1, 5)
          .map(
            (row, index) =>
              ['UPDATE public.item SET id = $1, n = n + 1 WHERE id = $2', rows[index]?.id, row.id] as const,
          ),
        ['UPDATE public.item SET id = $1 WHERE id = $2', rows.slice(1, 5).at(-1)?.id, -fresh],
      );
    case 'key away and back':
      return run(
        ['UPDATE public.item SET id = $1 WHERE id = $2', fresh, one.id],
        ['UPDATE public.item SET id = $1, n = n + 1 WHERE id = $2', one.id, fresh],
      );
    case 'delete and re-insert':
      return run(
        [
          'CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM public.item WHERE id = $1'.replace(
            '$1',
            String(one.id),
          ),
        ],
        ['DELETE FROM public.item WHERE id = $1', one.id],
        ['INSERT INTO public.item SELECT id, code, n + 1, big FROM kept'],
        ['DROP TABLE kept'],
      );
    case 're-insert with another code':
      return run(
        ['DELETE FROM public.item WHERE id = $1', one.id],
        ['INSERT INTO public.item VALUES ($1, $2, 1, NULL)', one.id, `code ${fresh}`],
      );
    case 'code of a deleted row':
      if (one.id === other.id) return;
      return run(
        ['DELETE FROM public.item WHERE id = $1', one.id],
        ['UPDATE public.item SET code = $1 WHERE id = $2', one.code, other.id],
        ['INSERT INTO public.item VALUES ($1, $2, 2, $3)', fresh, other.code, 'x'.repeat(3_000)],
      );
    case 'insert, change, move, delete':
      return run(
        ['INSERT INTO public.item VALUES ($1, $2, 0, $3)', fresh, `code ${fresh}`, 'y'.repeat(3_000)],
        ['UPDATE public.item SET n = 5 WHERE id = $1', fresh],
        ['UPDATE public.item SET id = $1 WHERE id = $2', -fresh, fresh],
        ...(a % 2 === 0 ? [['DELETE FROM public.item WHERE id = $1', -fresh] as const] : []),
      );
    case 'touch':
      return run(['UPDATE public.item SET n = n + 1 WHERE id = ANY ($1)', [one.id, other.id]]);
    case 'new big value':
      return run(
        ['UPDATE public.item SET big = $1 WHERE id = $2', 'z'.repeat(2_500 + a), one.id],
        ['UPDATE public.item SET n = -1 WHERE id = $1', one.id],
      );
    case 'rolled back part':
      return run(
        ['SAVEPOINT part'],
        ['DELETE FROM public.item WHERE id = $1', one.id],
        ['UPDATE public.item SET n = 99'],
        ['ROLLBACK TO SAVEPOINT part'],
        ['UPDATE public.item SET n = n + 1 WHERE id = $1', other.id],
      );
    case 'move all positions':
      return run([`UPDATE public.slot SET pos = pos ${a % 2 === 0 ? '+ 10' : '- 10'}`]);
    case 'swap positions':
      return run(
        ['UPDATE public.slot SET pos = $1 WHERE id = $2', other.pos, one.id],
        ['UPDATE public.slot SET pos = $1 WHERE id = $2 AND id <> $3', one.pos, other.id, one.id],
      );
    case 'position of a deleted row':
      return run(
        ['DELETE FROM public.slot WHERE id = $1', one.id],
        [
          'INSERT INTO public.slot VALUES ($1, $2, $3)',
          b % 2 === 0 ? fresh : one.id,
          one.pos,
          'w'.repeat(2_500),
        ],
      );
    case 'key of a slot':
      return run(['UPDATE public.slot SET id = $1 WHERE id = $2', fresh, one.id]);
  }
}

const STATE = [
  'SELECT id, code, n, md5(big), length(big) FROM public.item ORDER BY id',
  'SELECT id, pos, md5(big), length(big) FROM public.slot ORDER BY id',
];

/** Rows of one sink transaction, and bytes from which a source transaction is taken in parts. */
const SIZES = [
  { rows: 1, part: '32MiB', streaming: false },
  { rows: 3, part: '600B', streaming: false },
  { rows: 13, part: '8kB', streaming: true },
  { rows: 50, part: '32MiB', streaming: false },
];

describe('swaps of unique values, chains of key changes, delete and re-insert: green is what blue is (F54, F59)', () => {
  test.each(SIZES)(
    'groups of $rows rows, parts from $part, streaming $streaming',
    async ({ rows, part, streaming }) => {
      const seed = Number(process.env['VERDIGRIS_TEST_SEED'] ?? Date.now() % 1_000_000);
      const all = fc.sample(transaction, { seed: seed + rows, numRuns: 120 });
      await using run = await Run.create({
        blue: tables('DEFERRABLE INITIALLY DEFERRED') + FILL,
        green: tables(''),
        tables: '- from: public.item\n- from: public.slot',
        settings: `apply: { batch: { max_rows: ${rows} }, max_transaction: ${part}, heartbeat: 200ms }\ncopy: { workers: 2, chunk: { max_rows: 100 } }`,
        blueSettings: `replication: { streaming: ${streaming} }`,
      });
      const client = await run.blue.connect();
      try {
        const write = async (some: readonly (readonly Step[])[]): Promise<void> => {
          for (const steps of some) {
            await client.query('BEGIN');
            for (const one of steps) await perform(client, one);
            await client.query('COMMIT');
          }
        };
        // The first ones meet the copy.
        await Promise.all([run.start(), write(all.slice(0, 40))]);
        const migration = await run.engine.migration();
        for (let at = 40; at < all.length; at += 20) {
          // Once the stream is held back, so that groups are filled to the limit; once they are as small as they come.
          const held = (at / 20) % 2 === 0;
          if (held) await migration.pause('apply', 'test');
          await write(all.slice(at, at + 20));
          if (held) await migration.resume('apply');
          await run.settled();
          for (const state of STATE) await run.compare(state);
        }
      } catch (error) {
        throw new Error(
          `seed ${seed} (VERDIGRIS_TEST_SEED): ${error instanceof Error ? error.message : String(error)}`,
          { cause: error },
        );
      }
    },
    120_000,
  );
});
