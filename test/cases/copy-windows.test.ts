import { describe, expect, test } from 'vitest';
import { HoldPoints, Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

/** Changes that meet a copy at a known moment: ids 2 to 600, three ranges of a hundred rows, one worker. */
const COPYING = {
  blue: `CREATE TABLE public.doc (id int PRIMARY KEY, n int NOT NULL, big text NOT NULL);
    ALTER TABLE public.doc ALTER big SET STORAGE EXTERNAL;
    INSERT INTO public.doc SELECT g * 2, 0, repeat('t' || g, 1000) FROM generate_series(1, 300) g; ANALYZE;`,
  green:
    'CREATE SCHEMA app; CREATE TABLE app.paper (number bigint PRIMARY KEY, n int NOT NULL, body text NOT NULL);',
  tables: `
- from: public.doc
  to:
    - table: app.paper
      columns: { number: { from: id, cast: bigint }, n: copy, body: { from: big } }`,
  settings: 'copy: { workers: 1, chunk: { max_rows: 100 } }',
};
const BLUE = 'SELECT id, n, md5(big), length(big) FROM public.doc ORDER BY id';
const GREEN = 'SELECT number, n, md5(body), length(body) FROM app.paper ORDER BY number';

/** Ranges as the sink has them, in order: lower bound and whether it is done. */
const ranges = (run: Run): Promise<{ lower: string | null; done: boolean }[]> =>
  run.green.query(
    `SELECT lower, upto IS NOT NULL AS done FROM verdigris.ranges WHERE unit LIKE '%doc%' ORDER BY ordinal`,
  );

const holes = async (run: Run): Promise<string[]> =>
  (
    await run.green.query<{ key: string }>(
      `SELECT key[1] AS key FROM verdigris.holes WHERE kind = 'incomplete' ORDER BY 1`,
    )
  ).map((row) => row.key);

describe('changes without their whole image while the table is being copied (F53)', () => {
  test('update-of-uncopied-key-with-toast: the value that the log left out is not lost, wherever the update falls', async () => {
    const points = new HoldPoints();
    await using run = await Run.create(COPYING);
    const opened = points.hold('copy.window-open');
    await run.begin({ failpoints: points });
    await opened;
    // The mark table was the first range; now the first of the documents.
    const again = points.hold('copy.snapshot-taken');
    await run.blue.query('UPDATE public.doc SET n = n + 1 WHERE id IN (2, 400)');
    points.release('copy.window-open');
    await again;
    await run.blue.query('UPDATE public.doc SET n = n + 1 WHERE id IN (2, 4, 402)');
    await run.blue.query('UPDATE public.doc SET n = n + 1 WHERE id IN (2, 402)');
    await run.blue.query(`DELETE FROM public.doc WHERE id = 6`);
    await run.blue.query(`INSERT INTO public.doc VALUES (6, 9, repeat('again', 1000))`);
    points.release('copy.snapshot-taken');
    await run.started();
    await run.settled();
    expect(await run.compare(BLUE, GREEN)).toHaveLength(300);
  });

  test('key-change-todo-to-done-with-toast: a row that moves into a range which is done is read again', async () => {
    const points = new HoldPoints();
    await using run = await Run.create(COPYING);
    await holdAfterFirstRange(run, points);
    const [first, second] = (await ranges(run)).map((range, index, all) => ({
      lower: range.lower,
      upper: all[index + 1]?.lower ?? null,
      done: range.done,
    }));
    expect([first?.done, second?.done]).toEqual([true, false]);
    const done = Number(first?.upper) - 1;
    await run.blue.query(
      'BEGIN; UPDATE public.doc SET id = $1 WHERE id = 598; COMMIT'.replace('$1', String(done)),
    );
    // Open (its window is held) to done, done to open, done to todo and back in one transaction, todo to open.
    await run.blue.query(`UPDATE public.doc SET id = ${done - 2} WHERE id = ${Number(first?.upper) + 2}`);
    await run.blue.query(`UPDATE public.doc SET id = ${Number(first?.upper) + 1} WHERE id = 10`);
    await run.blue.query(
      `BEGIN; UPDATE public.doc SET id = 10001 WHERE id = 12; UPDATE public.doc SET id = 12, n = 3 WHERE id = 10001; COMMIT`,
    );
    await run.blue.query(`UPDATE public.doc SET id = 10003 WHERE id = 14`);
    await run.blue.query(`UPDATE public.doc SET id = ${Number(first?.upper) + 3} WHERE id = 596`);
    await waitFor(async () => (await holes(run)).includes(String(done)), {
      what: 'the row without its whole image to be noted',
    });
    // A later change of a row that green lacks finds nothing there, and that is expected.
    await run.blue.query(`UPDATE public.doc SET n = n + 1 WHERE id = ${done}`);
    points.release('copy.window-open');
    await run.started();
    await run.settled();
    expect(await holes(run)).toEqual([]);
    expect(await run.compare(BLUE, GREEN)).toHaveLength(300);
  });

  test('a truncate during the copy and one during streaming empty green at the same place in the log (F58)', async () => {
    const points = new HoldPoints();
    await using run = await Run.create(COPYING);
    await holdAfterFirstRange(run, points);
    await run.blue.query('UPDATE public.doc SET n = 7 WHERE id = 8');
    await run.blue.query('TRUNCATE public.doc');
    await run.blue.query(`INSERT INTO public.doc SELECT g, 1, 'after' FROM generate_series(1, 50) g`);
    await run.blue.query('UPDATE public.doc SET id = id + 300, n = 2 WHERE id < 10');
    points.release('copy.window-open');
    await run.started();
    await run.settled();
    expect(await run.compare(BLUE, GREEN)).toHaveLength(50);
    await run.blue.query(
      `BEGIN; INSERT INTO public.doc VALUES (90, 1, 'lost'); TRUNCATE public.doc; INSERT INTO public.doc VALUES (91, 1, 'kept'); COMMIT`,
    );
    await run.settled();
    expect(await run.compare(BLUE, GREEN)).toHaveLength(1);
  });
});

/** The first range of the documents is done, the window of the second is open and its snapshot not taken. */
const holdAfterFirstRange = (run: Run, points: HoldPoints): Promise<void> =>
  holdWhen(run, points, async () => (await ranges(run))[0]?.done === true);

/** Begins, and waits in the first window that opens when `there` holds. */
async function holdWhen(run: Run, points: HoldPoints, there: () => Promise<boolean>): Promise<void> {
  let opened = points.hold('copy.window-open');
  await run.begin({ failpoints: points });
  for (;;) {
    await opened;
    if (await there()) return;
    points.release('copy.window-open');
    opened = points.hold('copy.window-open');
  }
}

test('indexes of a table whose rows are all there are built while another one is still copied', async () => {
  const points = new HoldPoints();
  const ddl = `CREATE TABLE public.early (id int PRIMARY KEY, v int); CREATE TABLE public.later (id int PRIMARY KEY, v int REFERENCES public.early);`;
  await using run = await Run.create({
    blue: `${ddl} INSERT INTO public.early SELECT g, g FROM generate_series(1, 10) g; INSERT INTO public.later SELECT g, g FROM generate_series(1, 10) g;`,
    green: `${ddl} CREATE INDEX early_v ON public.early (v); CREATE INDEX later_v ON public.later (v);`,
    tables: '- from: public.early\n- from: public.later',
    settings: 'copy: { workers: 1 }',
  });
  const built = async (): Promise<string[]> =>
    (
      await run.green.query<{ name: string }>(
        `SELECT indexname AS name FROM pg_indexes WHERE indexname LIKE '%\\_v' ORDER BY 1`,
      )
    ).map(({ name }) => name);
  await holdWhen(run, points, async () => {
    const [early] = await run.green.query<{ done: boolean }>(
      `SELECT bool_and(upto IS NOT NULL) AS done FROM verdigris.ranges WHERE unit LIKE '%early%'`,
    );
    return early?.done === true;
  });
  await waitFor(async () => (await built()).length > 0, { what: 'an index is built' });
  expect(await built()).toEqual(['early_v']);
  points.release('copy.window-open');
  await run.started();
  expect(await built()).toEqual(['early_v', 'later_v']);
  await run.settled();
  expect(await run.compare('SELECT * FROM public.later ORDER BY id')).toHaveLength(10);
});

describe('what the log carries for us', () => {
  test('publication-add-with-open-writer: a first copy loses nothing of a transaction that was open, and a table added later is refused', async () => {
    await using run = await Run.create({
      blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE TABLE public.later (id int PRIMARY KEY)',
      green: 'CREATE TABLE public.t (id int PRIMARY KEY, v text)',
      tables: '- from: public.t\n- from: public.later\n  ignore: true',
    });
    const writer = await run.blue.connect();
    await writer.query('BEGIN');
    await writer.query(`INSERT INTO public.t VALUES (1, 'before the slot')`);
    await run.begin();
    const published = () =>
      run.blue.query(`SELECT 1 FROM pg_publication WHERE pubname = $1`, [`verdigris_${run.name}`]);
    await waitFor(async () => (await published()).length > 0, {
      what: 'the publication to be made while the writer is open',
    });
    await writer.query(`INSERT INTO public.t VALUES (2, 'after the publication')`);
    await writer.query('COMMIT');
    await run.started();
    await run.settled();
    expect(await run.compare('SELECT * FROM public.t ORDER BY id')).toHaveLength(2);

    await run.blue.query(`ALTER PUBLICATION "verdigris_${run.name}" ADD TABLE public.later`);
    await expect(run.engine.ended()).rejects.toMatchObject({
      code: 'SOURCE_PUBLICATION_CHANGED',
      directive: 'fatal',
    });
    await run.stop();
    await expect(run.start()).rejects.toMatchObject({
      code: 'SOURCE_PUBLICATION_CHANGED',
      message: expect.stringContaining('later') as string,
    });
  });
});
