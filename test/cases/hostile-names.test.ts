import pg from 'pg';
import { expect, test } from 'vitest';
import { Run } from '../support/run.ts';

const q = pg.escapeIdentifier;

/** Each stands for a schema, a table, its columns and its constraints at once. */
const NAMES = [
  `x"; drop table y; --`,
  `a b`,
  `Upper`,
  `it's $$ \\ %s %I {x} \${y}`,
  `tab\tnew\nline`,
  `é${'ü'.repeat(30)}x`,
  'n'.repeat(63),
  `.dots.and"quotes".`,
  `select`,
  `verdigris`.repeat(7),
  '{"json": 1}',
  '\u{1f600} \u202e',
];

test('names that are made to break what quotes them carelessly go through copy, stream, verification and switch', async () => {
  const ddl = NAMES.map((name, index) => {
    const table = `${q(name)}.${q(name)}`;
    return `CREATE SCHEMA ${q(name)};
      CREATE TABLE ${table} (${q(name)} int CONSTRAINT ${q(`k${name}`.slice(0, 20))} PRIMARY KEY, ${q(`v${name}`.slice(0, 20))} text CONSTRAINT ${q(`u${name}`.slice(0, 20))} UNIQUE, n int CHECK (n <> ${-1 - index}));
      CREATE INDEX ${q(`i${name}`.slice(0, 20))} ON ${table} (n, ${q(name)});`;
  }).join('\n');
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  await using run = await Run.create({
    blue: `CREATE TABLE public.y (id int); ${ddl}
      ${NAMES.map((name) => `INSERT INTO ${q(name)}.${q(name)} SELECT g, 'v' || g, g FROM generate_series(1, 250) g;`).join('\n')} ANALYZE;`,
    green: ddl,
    tables: NAMES.map(
      (name) => `- from: ${JSON.stringify(`${quoted(name)}.${quoted(name)}`.replaceAll('${', () => '$${'))}`,
    ).join('\n'),
    settings: 'copy: { workers: 2, chunk: { max_rows: 100 } }\ngates: { stable_for: 1s }',
  });
  await run.start();
  for (const name of NAMES) {
    const table = `${q(name)}.${q(name)}`;
    const value = q(`v${name}`.slice(0, 20));
    await run.blue.query(`INSERT INTO ${table} VALUES (1000, 'new', 5)`);
    await run.blue.query(
      `BEGIN; UPDATE ${table} SET ${value} = 'tmp' WHERE n = 7; UPDATE ${table} SET ${value} = 'v7' WHERE n = 8; UPDATE ${table} SET ${value} = 'v8' WHERE ${value} = 'tmp'; COMMIT`,
    );
    await run.blue.query(`UPDATE ${table} SET ${q(name)} = ${q(name)} + 2000 WHERE n = 9`);
    await run.blue.query(`DELETE FROM ${table} WHERE n = 10`);
  }
  await run.settled();
  for (const name of NAMES)
    expect(await run.compare(`SELECT * FROM ${q(name)}.${q(name)} ORDER BY 1`)).toHaveLength(250);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  const plan = await run.engine.plan();
  const outcome = await run.engine.cutover({
    planHash: plan.hash,
    confirm: run.name,
    overrides: (await run.engine.status()).gates
      .filter((gate) => !gate.ok)
      .map((gate) => ({ gate: gate.name, reason: 'test' })),
  });
  expect(outcome).toMatchObject({ outcome: 'switched', error: null });
  await expect(
    run.blue.query(`INSERT INTO ${q(NAMES[0] as string)}.${q(NAMES[0] as string)} VALUES (5000, 'x', 1)`),
  ).rejects.toThrow();
  await run.green.query(
    `INSERT INTO ${q(NAMES[0] as string)}.${q(NAMES[0] as string)} VALUES (5000, 'x', 1)`,
  );
  expect(await run.blue.query('SELECT * FROM public.y')).toEqual([]);
}, 90_000);
