import { describe, expect, test } from 'vitest';
import { Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

/** Where the stream stands still on purpose: at an exact place, with everything before it on green and nothing skipped. */

const checkpoint = async (run: Run): Promise<string> =>
  (await run.green.query<{ position: string }>('SELECT position FROM verdigris.checkpoint'))[0]?.position ??
  '';

/** The stream stays where it is, also after a resume, until the operator has done something. */
async function staysThere(run: Run, code: string): Promise<void> {
  const before = await checkpoint(run);
  const { retries } = (await run.engine.status()).apply;
  await run.resume();
  await waitFor(async () => (await run.engine.status()).apply.retries > retries, { what: 'another try' });
  await run.parked(code);
  expect(await checkpoint(run)).toBe(before);
}

/** The type green has by mistake, the type that blue has, a value that fits both, and one that does not. */
const TOO_LONG = [
  ['varchar(5)', 'varchar(9)', `'abcde'`, `'abcdef'`],
  ['char(3)', 'char(4)', `'abc'`, `'abcd'`],
  ['bit(4)', 'bit(5)', `NULL`, `B'10101'`],
  ['varbit(4)', 'varbit', `B'1010'`, `B'10101'`],
  ['varchar(3)[]', 'varchar(4)[]', `'{abc}'`, `'{abc,abcd}'`],
  ['numeric(4,2)', 'numeric(5,2)', `12.34`, `123.45`],
  ['smallint', 'bigint', `32767`, `32768`],
  ['real', 'float8', `1`, `1e300`],
] as const;

describe('one-too-long-per-type: a value that green cannot hold stops the stream there, and goes through once green is wider (F41, F60)', () => {
  test('every type with a length', async () => {
    const names = TOO_LONG.map((_, index) => `t${index}`);
    const ddl = TOO_LONG.map(
      ([, wide], index) => `CREATE TABLE public.t${index} (id int PRIMARY KEY, v ${wide});`,
    ).join(' ');
    await using run = await Run.create({
      blue: `${ddl} ${TOO_LONG.map(([, wide, fits], index) => `INSERT INTO public.t${index} VALUES (1, ${fits}::${wide === 'bit(5)' ? 'bit(5)' : wide});`).join(' ')}`,
      green: ddl,
      tables: names.map((name) => `- from: public.${name}`).join('\n'),
    });
    await run.start();
    for (const [index, [narrow, wide, , tooLong]] of TOO_LONG.entries()) {
      const table = `public.t${index}`;
      await run.green.query(`ALTER TABLE ${table} ALTER v TYPE ${narrow}`);
      // Held back, so that what fits and what does not arrive together.
      const migration = await run.engine.migration();
      await migration.pause('apply', 'test');
      await run.blue.query(`INSERT INTO ${table} VALUES (2, NULL)`);
      const before = await run.mark();
      await run.blue.query(`UPDATE ${table} SET v = ${tooLong} WHERE id = 2`);
      await run.blue.query(`INSERT INTO ${table} VALUES (3, NULL)`);
      const behind = await run.mark();
      await migration.resume('apply');
      const status = await run.parked('SINK_FAILED');
      expect(status.error?.message, narrow).toContain(`${table}, column v`);
      expect(JSON.stringify(status)).not.toContain(tooLong.replaceAll(/[B'{}]/g, ''));
      await run.marked(before);
      expect(await run.green.query(`SELECT id FROM ${table} ORDER BY id`), narrow).toEqual([
        { id: 1 },
        { id: 2 },
      ]);
      if (index === 0) await staysThere(run, 'SINK_FAILED');
      await run.green.query(`ALTER TABLE ${table} ALTER v TYPE ${wide}`);
      await run.resume();
      await run.marked(behind);
      expect(await run.compare(`SELECT id, v FROM ${table} ORDER BY id`), narrow).toHaveLength(3);
    }
  }, 90_000);
});

describe('a row that green refuses while it is copied', () => {
  test('stops and waits instead of trying for ever, and goes on when green takes it', async () => {
    await using run = await Run.create({
      blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t VALUES (1, 1), (2, -2);',
      green: 'CREATE TABLE public.t (id int PRIMARY KEY, v int CONSTRAINT positive CHECK (v > 0));',
      tables: '- from: public.t',
    });
    await run.begin();
    const { apply } = await run.parked('SINK_CONFLICT');
    await run.resume();
    await waitFor(async () => (await run.engine.status()).apply.retries > apply.retries, {
      what: 'another try',
    });
    await run.parked('SINK_CONFLICT');
    await run.green.query('ALTER TABLE public.t DROP CONSTRAINT positive');
    await run.resume();
    await waitFor(async () => (await run.engine.status()).phase === 'replicating', {
      what: 'the end of the copy',
    });
    await run.settled();
    await run.compare('SELECT id, v FROM public.t ORDER BY id');
  });
});

describe('a value that the mapping cannot take', () => {
  const shape = (onError: string) => ({
    blue: `CREATE TABLE public.bill (id int PRIMARY KEY, amount numeric(12,4) NOT NULL, state smallint, note text);
      ALTER TABLE public.bill ALTER note SET STORAGE EXTERNAL;
      INSERT INTO public.bill SELECT g, g, 0, repeat('n' || g, 1000) FROM generate_series(1, 20) g;`,
    green:
      'CREATE SCHEMA pay; CREATE TABLE pay.bill (id int PRIMARY KEY, cents bigint NOT NULL, state text, note text);',
    tables: `
- from: public.bill
  to:
    - table: pay.bill
      columns:
        id: copy
        cents: { from: amount, op: scale, factor: 100, cast: bigint, on_error: ${onError} }
        state: { op: map, values: { 0: new, 1: paid }, on_unmapped: ${onError} }
        note: copy`,
  });
  const BLUE = `SELECT id, (amount * 100)::bigint, CASE state WHEN 0 THEN 'new' WHEN 1 THEN 'paid' END, md5(note) FROM public.bill
    WHERE amount * 100 = trunc(amount * 100) AND coalesce(state, 0) IN (0, 1) ORDER BY id`;
  const GREEN = 'SELECT id, cents, state, md5(note) FROM pay.bill ORDER BY id';
  const rejects = async (run: Run): Promise<string[]> =>
    (
      await run.green.query<{ row: string }>(
        `SELECT table_name || ' ' || key[1] || ' ' || column_name AS row FROM verdigris.rejects ORDER BY key[1]::int`,
      )
    ).map(({ row }) => row);

  test('on_error fail: stops the stream at exactly that transaction, skips nothing, and goes on when green takes it otherwise', async () => {
    await using run = await Run.create(shape('fail'));
    await run.start();
    const migration = await run.engine.migration();
    await migration.pause('apply', 'test');
    await run.blue.query('UPDATE public.bill SET state = 1 WHERE id = 1');
    const before = await run.mark();
    await run.blue.query(
      'BEGIN; UPDATE public.bill SET state = 1 WHERE id = 2; UPDATE public.bill SET amount = 0.001 WHERE id = 3; COMMIT',
    );
    await run.blue.query('UPDATE public.bill SET state = 1 WHERE id = 4');
    await migration.resume('apply');
    const status = await run.parked('MAPPING_VALUE');
    expect(status.error?.message).toMatch(/public\.bill/);
    expect(JSON.stringify(status)).not.toContain('0.001');
    await run.marked(before);
    // Nothing of the transaction, nor of what follows it.
    expect(await run.green.query(`SELECT id FROM pay.bill WHERE state = 'paid'`)).toEqual([{ id: 1 }]);
    await staysThere(run, 'MAPPING_VALUE');
    expect(await run.green.query(`SELECT id FROM pay.bill WHERE state = 'paid'`)).toEqual([{ id: 1 }]);
  });

  test('on_error reject: copied, inserted and updated rows go to the reject table with their key, and come back when blue corrects them', async () => {
    await using run = await Run.create({ ...shape('reject') });
    await run.blue.query('UPDATE public.bill SET amount = 0.001 WHERE id IN (5, 6, 7)');
    await run.start();
    expect(await rejects(run)).toEqual(['bill 5 cents', 'bill 6 cents', 'bill 7 cents']);
    await run.blue.query(
      `INSERT INTO public.bill VALUES (30, 0.005, 0, 'x'), (31, 1, 9, 'y'), (32, 1, 0, 'z')`,
    );
    await run.blue.query('UPDATE public.bill SET amount = 2.345 WHERE id IN (8, 9)');
    await run.blue.query('UPDATE public.bill SET state = 7 WHERE id = 9');
    await run.settled();
    expect(await rejects(run)).toEqual([
      'bill 5 cents',
      'bill 6 cents',
      'bill 7 cents',
      'bill 8 cents',
      'bill 9 cents',
      'bill 30 cents',
      'bill 31 state',
    ]);
    expect((await run.engine.status()).apply.rejects).toBe(7);
    await run.compare(BLUE, GREEN);
    expect(
      await run.rows(
        'green',
        `SELECT reason FROM verdigris.rejects WHERE reason LIKE '%2.345%' OR reason LIKE '%0.001%'`,
      ),
    ).toEqual([]);

    // Corrected without the large value (it is read again), with it, moved to another key, and deleted.
    await run.blue.query('UPDATE public.bill SET amount = 5 WHERE id = 5');
    await run.blue.query(`UPDATE public.bill SET amount = 6, note = 'short' WHERE id = 6`);
    await run.blue.query('UPDATE public.bill SET id = 70, amount = 7 WHERE id = 7');
    await run.blue.query('DELETE FROM public.bill WHERE id = 8');
    await run.blue.query('UPDATE public.bill SET state = 1 WHERE id = 31');
    await run.settled();
    expect(await rejects(run)).toEqual(['bill 9 cents', 'bill 30 cents']);
    await run.compare(BLUE, GREEN);
    await run.blue.query('UPDATE public.bill SET amount = 1, state = 1');
    await run.settled();
    expect(await rejects(run)).toEqual([]);
    expect(await run.compare(BLUE, GREEN)).toHaveLength(22);
  });
});

describe('a layout that changes on blue (F28)', () => {
  test.each([
    ['ALTER TABLE public.t ADD COLUMN extra int DEFAULT 5', 'extra'],
    ['ALTER TABLE public.t ALTER v TYPE bigint', 'v'],
    ['ALTER TABLE public.t RENAME COLUMN v TO w', 'w'],
    ['ALTER TABLE public.t DROP COLUMN v', 'v'],
  ])('%s parks with SCHEMA_CHANGED where it happened', async (ddl, named) => {
    await using run = await Run.create({
      blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t VALUES (1, 1);',
      green: 'CREATE TABLE public.t (id int PRIMARY KEY, v int);',
      tables: '- from: public.t',
    });
    await run.start();
    const migration = await run.engine.migration();
    await migration.pause('apply', 'test');
    await run.blue.query('UPDATE public.t SET v = 2');
    const before = await run.mark();
    await run.blue.query(ddl);
    await run.blue.query('INSERT INTO public.t (id) VALUES (2)');
    await migration.resume('apply');
    const status = await run.parked('SCHEMA_CHANGED');
    expect(status.error?.message).toContain('public.t');
    expect(status.error?.message).toContain(named);
    await run.marked(before);
    expect(await run.green.query('SELECT * FROM public.t')).toEqual([{ id: 1, v: 2 }]);
    await staysThere(run, 'SCHEMA_CHANGED');
    expect(await run.green.query('SELECT * FROM public.t')).toEqual([{ id: 1, v: 2 }]);
  });
});
