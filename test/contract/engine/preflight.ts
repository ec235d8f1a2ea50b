import { describe, expect, test } from 'vitest';
import type { PreflightScope, Session } from '../../../src/core/engine.ts';
import type { CheckResult } from '../../../src/core/preflight.ts';
import { item, type EngineHarness } from './harness.ts';
import { connectSide, newMigration, targetOf } from './side.ts';

const look = async (session: Session, scope: Partial<PreflightScope>): Promise<readonly CheckResult[]> => {
  const results = await session.preflight({
    role: 'source',
    tables: [],
    needsFullImages: [],
    targets: [],
    connections: 6,
    fresh: true,
    ...scope,
  });
  expect(results.length).toBeGreaterThan(0);
  for (const result of results) {
    expect(result.side).toBe(session.side);
    for (const text of [result.id, result.title]) expect(text).not.toBe('');
    if (result.outcome === 'ok') continue;
    for (const text of [result.observed, result.expected, result.remedy])
      expect(text, result.id).not.toBe('');
  }
  return results;
};

const blocking = (results: readonly CheckResult[]): CheckResult[] =>
  results.filter(({ level, outcome }) => level === 'block' && outcome !== 'ok');

/** The checks before a start. */
export function preflightContract(harness: EngineHarness): void {
  describe('preflight', () => {
    test('a test server that is fit has nothing that blocks, on either side', async () => {
      await using blue = await harness.database('blue');
      await using green = await harness.database('green');
      const spec = { name: 'items' };
      const [from, to] = [await blue.table(spec), await green.table(spec)];
      await using left = await connectSide(harness, blue, { side: 'blue', migration: newMigration() });
      await using right = await connectSide(harness, green, { side: 'green', migration: newMigration() });
      expect(blocking(await look(left, { role: 'source', tables: [from] }))).toEqual([]);
      const targets = [await targetOf(right, to)];
      expect(blocking(await look(right, { role: 'sink', tables: [to], targets }))).toEqual([]);
    });

    test('findings say what to do: a table that is missing, a sink that is not empty', async () => {
      await using database = await harness.database('green');
      const table = await database.table({ name: 'items' });
      await using writer = await database.writer();
      await writer.insert(table, item(1));
      await using session = await connectSide(harness, database, {
        side: 'green',
        migration: newMigration(),
      });
      const missing = { ...table, name: 'gone' };
      const names = (results: readonly CheckResult[], name: string): boolean =>
        blocking(results).some(({ observed, title, remedy }) =>
          `${title} ${observed} ${remedy}`.includes(name),
        );
      expect(names(await look(session, { role: 'source', tables: [missing] }), 'gone')).toBe(true);
      const targets = [await targetOf(session, table)];
      const full = await look(session, { role: 'sink', tables: [table], targets, fresh: true });
      expect(names(full, 'items')).toBe(true);
    });

    test('readiness names nothing on a side where nothing is going on', async () => {
      await using database = await harness.database('blue');
      const table = await database.table({ name: 'items', unique: true });
      await using session = await connectSide(harness, database, { side: 'blue', migration: newMigration() });
      expect(await session.readiness.read([table])).toMatchObject({
        ddlInProgress: [],
        invalidIndexes: [],
        unvalidatedConstraints: [],
      });
    });
  });
}
