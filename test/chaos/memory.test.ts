import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { waitFor } from '../support/wait.ts';

const LIMIT_MB = 512;
const yaml = (blue: TestDatabase, green: TestDatabase): string => `version: 1
migration: memory
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
verify: { after_copy: "off" }
tables:
  - from: public.item
    to: [{ table: public.item }]
`;
const TABLE = 'CREATE TABLE public.item (id int PRIMARY KEY, n int NOT NULL, note text NOT NULL)';

/** Highest resident memory the process ever had, MB. */
async function peakMb(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
}

const count = async (db: TestDatabase, where = 'true'): Promise<number> =>
  (await db.query<{ n: number }>(`SELECT count(*)::int AS n FROM public.item WHERE ${where}`))[0]
    ?.n as number;

describe(`memory stays under ${LIMIT_MB} MB`, () => {
  test('F29: one transaction of 2 million rows, visible on green at once', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(TABLE);
    await using place = await Workplace.create({ 'verdigris.yaml': yaml(blue, green), 'green.sql': TABLE });
    const engine = place.start();
    await engine.until('it replicates', (status) => status.phase === 'replicating');
    await blue.query(`INSERT INTO public.item SELECT g, g, 'note ' || g FROM generate_series(1, 2000000) g`);
    const seen = new Set<number>();
    await waitFor(
      async () => {
        const rows = await count(green);
        seen.add(rows);
        return rows === 2_000_000;
      },
      { what: 'two million rows on green', timeoutMs: 200_000, everyMs: 500 },
    );
    expect([...seen].filter((rows) => rows !== 0)).toEqual([2_000_000]);
    expect(await peakMb(engine.pid)).toBeLessThan(LIMIT_MB);
    await engine.kill('SIGTERM');
  }, 240_000);

  test('F10: a sink that is stopped while the source goes on', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(TABLE);
    await using place = await Workplace.create({ 'verdigris.yaml': yaml(blue, green), 'green.sql': TABLE });
    const engine = place.start();
    await engine.until('it replicates', (status) => status.phase === 'replicating');
    const holder = await green.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE public.item IN ACCESS EXCLUSIVE MODE');
    // Some 250 MB of log in small transactions: more than half of what the process may hold in all.
    for (let batch = 0; batch < 200; batch++) {
      await blue.query(
        `INSERT INTO public.item SELECT $1::int * 1000 + g, g, repeat('x', 1000) FROM generate_series(1, 1000) g`,
        [batch],
      );
    }
    await engine.until('the lag of a stopped sink', (status) => (status.lag.commitSeconds ?? 0) > 5, 30_000);
    expect(await peakMb(engine.pid)).toBeLessThan(LIMIT_MB);
    await holder.query('ROLLBACK');
    await waitFor(async () => (await count(green)) === 200_000, {
      what: 'all rows on green',
      timeoutMs: 120_000,
      everyMs: 200,
    });
    expect(await peakMb(engine.pid)).toBeLessThan(LIMIT_MB);
    await engine.kill('SIGTERM');
  }, 240_000);
});
