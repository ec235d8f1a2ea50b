import { expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { FinishStep } from '../../../src/core/sink.ts';
import { finishDeferred } from '../../../src/engines/postgres/sink-finish.ts';
import { green, insert, type Green } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );
const never = new AbortController().signal;

/** Every index and constraint of schema public, as the server prints it. */
const objects = (g: Green): Promise<string[]> =>
  g.rows(
    `SELECT pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace
     UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid), convalidated FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1`,
  );
const attached = (g: Green): Promise<string[]> =>
  g.rows('SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits ORDER BY inhrelid::regclass::text');

const SCHEMA = `
  CREATE TABLE city (id int PRIMARY KEY, name text UNIQUE NULLS NOT DISTINCT);
  CREATE TABLE person (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text, pos int, city int, born date, span int4range,
    CONSTRAINT "mail; --" UNIQUE (email) INCLUDE (pos), UNIQUE (pos) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (city) REFERENCES city (id) ON DELETE SET NULL, EXCLUDE USING gist (span WITH &&));
  CREATE INDEX "lower ""mail""" ON person (lower(email)) WHERE email IS NOT NULL;
  CREATE UNIQUE INDEX plain_unique ON person (born DESC, email);
  ALTER TABLE person ADD CONSTRAINT unchecked FOREIGN KEY (pos) REFERENCES city (id) NOT VALID;
  CREATE TABLE log (id int, day int, tag text, PRIMARY KEY (id, day), CONSTRAINT log_tag UNIQUE (tag, day)) PARTITION BY LIST (day);
  CREATE TABLE log1 PARTITION OF log FOR VALUES IN (1);
  CREATE TABLE log2 PARTITION OF log FOR VALUES IN (2) PARTITION BY LIST (day);
  CREATE TABLE log2a PARTITION OF log2 FOR VALUES IN (2);
  CREATE INDEX log_by_tag ON log (tag); ALTER INDEX log1_tag_idx RENAME TO odd_name; CREATE INDEX own ON log1 (day);
  ALTER TABLE log ADD FOREIGN KEY (id) REFERENCES city (id);`;

test('prepareCopy and finishCopy bring back every index and constraint under its name, also when both run twice', async () => {
  for (const concurrentAbove of [undefined, 0]) {
    await using g = await green(SCHEMA);
    const targets = await g.targets('city', 'person', 'log');
    const [city, person, log] = targets.map((target) => target.relation) as [never, never, never];
    const before = await objects(g);
    const family = await attached(g);
    await g.sink.prepare(targets);
    await g.sink.begin(g.at);
    await g.sink.prepareCopy(targets);
    await g.sink.prepareCopy(targets);
    // Six tables and partitions: a primary key and its index each.
    expect((await objects(g)).length).toBe(12);
    const group = g.group([
      insert(city, ['1', 'Rome'], ['2', 'Oslo'], ['3', null]),
      insert(
        person,
        ['1', 'a', '1', '1', '2000-01-01', '[1,2)'],
        ['2', 'b', '2', '2', null, '[2,3)'],
        ['3', null, '3', null, null, null],
      ),
      insert(log, ['1', '1', 'x'], ['1', '2', 'x'], ['2', '2', 'y']),
    ]);
    await g.sink.apply(group);
    const steps: FinishStep[] = [];
    const progress = (step: FinishStep): void => void steps.push(step);
    const options = concurrentAbove === undefined ? {} : { concurrentAbove: -1 };
    const stream = {
      config: g.config,
      env: g.env,
      options: { direction: 'forward' as const, term: g.term, maxBatchBytes: 1 },
    };
    await finishDeferred(stream, targets, progress, never, options);
    expect(await objects(g)).toEqual(before);
    expect(await attached(g)).toEqual(family);
    expect(steps.at(-1)).toMatchObject({ done: steps.length, total: steps.length });
    expect(steps.filter((step) => step.kind === 'statistics').length).toBe(3);
    await g.sink.finishCopy(targets, progress, never);
    await g.sink.prepareCopy(targets);
    expect(await objects(g)).toEqual(before);
    expect(await g.rows(`SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'person'`)).toEqual(['true']);
  }
});

test('finishTables builds what belongs to its tables alone, partitions too, and leaves foreign keys and the others to finishCopy', async () => {
  await using g = await green(SCHEMA);
  const targets = await g.targets('city', 'person', 'log');
  const [city, person, log] = targets as [(typeof targets)[0], (typeof targets)[0], (typeof targets)[0]];
  const before = await objects(g);
  const family = await attached(g);
  await g.sink.prepare(targets);
  await g.sink.begin(g.at);
  await g.sink.prepareCopy(targets);
  const bare = await objects(g);
  await g.sink.finishTables([log], never);
  const ofLog = before.filter((line) => /public\.log|^log/.test(line) && !line.includes('FOREIGN KEY'));
  expect((await objects(g)).filter((line) => !bare.includes(line))).toEqual(
    ofLog.filter((line) => !bare.includes(line)),
  );
  await g.sink.apply(g.group([insert(log.relation, ['1', '1', 'x']), insert(city.relation, ['1', 'Rome'])]));
  await g.sink.finishTables([person], never);
  const steps: FinishStep[] = [];
  await g.sink.finishCopy(targets, (step) => void steps.push(step), never);
  expect(await objects(g)).toEqual(before);
  expect(await attached(g)).toEqual(family);
  // Those of the others were gathered.
  expect(steps.filter(({ kind }) => kind === 'statistics').map(({ name }) => name)).toEqual(['city']);
  expect(steps.at(-1)).toMatchObject({ done: steps.length, total: steps.length });
});

test('finishCopy goes on after a duplicate was removed, and after an index that an interrupted build left invalid', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, v int); CREATE INDEX t_v ON t (v)`,
  );
  const t = await g.target('t');
  const before = await objects(g);
  await g.sink.prepare([t]);
  await g.sink.begin(g.at);
  await g.sink.prepareCopy([t]);
  await g.sink.apply(g.group([insert(t.relation, ['1', 'same', '1'], ['2', 'same', '2'])]));
  const error = await failure(g.sink.finishCopy([t], () => undefined, never));
  expect(error).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { table: 'public.t', constraint: 't_u_key' },
  });
  expect(error.message).not.toContain('same');
  const stream = {
    config: g.config,
    env: g.env,
    options: { direction: 'forward' as const, term: g.term, maxBatchBytes: 1 },
  };
  expect(
    await failure(finishDeferred(stream, [t], () => undefined, never, { concurrentAbove: -1 })),
  ).toMatchObject({ code: 'SINK_CONFLICT' });
  expect(await g.rows(`SELECT indisvalid FROM pg_index WHERE indexrelid = 't_u_key'::regclass`)).toEqual([
    'false',
  ]);
  await g.db.query('DELETE FROM t WHERE id = 2');
  await finishDeferred(stream, [t], () => undefined, never, { concurrentAbove: -1 });
  expect(await objects(g)).toEqual(before);
  const aborted = new AbortController();
  aborted.abort(new Error('stop'));
  expect((await failure(g.sink.finishCopy([t], () => undefined, aborted.signal))).message).toBe('stop');
});

test('prepareCopy leaves tables with rows, keys, and what a foreign key from outside leans on', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE); CREATE TABLE outside (u int REFERENCES t (u));
     CREATE TABLE full_table (id int PRIMARY KEY, u int UNIQUE); INSERT INTO full_table VALUES (1, 1);
     CREATE TABLE by_index (id int NOT NULL, u int); CREATE UNIQUE INDEX by_index_id ON by_index (id); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id`,
  );
  const targets = await g.targets('t', 'full_table', 'by_index');
  const before = await objects(g);
  await g.sink.prepare(targets);
  await g.sink.prepareCopy(targets);
  expect(await objects(g)).toEqual(before);
});
