import { describe, expect, test } from 'vitest';
import { columnIndex } from '../../../src/core/table.ts';
import { openBlue } from './blue.ts';
import { item, type EngineHarness } from './harness.ts';
import { insertedIds } from './replay.ts';
import { connectSide, failure, newMigration } from './side.ts';

const ODD = `x"; drop table y; -- 'ü`;

/** Layouts of tables, and names of any spelling. */
export function catalogContract(harness: EngineHarness): void {
  const { rows } = harness;

  describe('catalog', () => {
    test('tables that people made are listed, with their layouts as source and as sink; ours are not', async () => {
      await using database = await harness.database('green');
      const names = [await database.table({ name: 'items' }), await database.table({ name: 'Items' })];
      await using session = await connectSide(harness, database, {
        side: 'green',
        migration: newMigration(),
      });
      await session.state.prepare();
      const listed = await session.catalog.tables();
      expect(listed.map(({ name }) => name).toSorted()).toEqual(names.map(({ name }) => name).toSorted());
      for (const table of names) {
        const relations = [await session.catalog.source(table), await session.catalog.target(table)];
        for (const relation of relations) {
          expect(relation.table).toEqual(table);
          expect(relation.key).toHaveLength(1);
          expect(relation.identity).not.toBe('none');
          expect(new Set(relation.columns.map(({ name }) => name)).size).toBe(relation.columns.length);
          for (const column of relation.columns) expect(column.type).not.toBe('');
          expect(rows.value(relation)).toBeGreaterThanOrEqual(0);
        }
        expect(await session.catalog.source(table)).toEqual(relations[0]);
      }
      expect(await session.catalog.serverVersion()).toMatch(/\d/);
    });

    test('a table that is not there has a code of its own', async () => {
      await using database = await harness.database('blue');
      const here = await database.table({ name: 'items' });
      await using session = await connectSide(harness, database, { side: 'blue', migration: newMigration() });
      const missing = { ...here, name: 'gone' };
      for (const role of ['source', 'target'] as const) {
        const error = await failure(session.catalog[role](missing));
        expect(error).toMatchObject({ code: 'SCHEMA_TABLE_MISSING' });
        expect(error.message).toContain('gone');
      }
    });

    test('hostile names go through catalog, log, snapshot, digest and fence', async () => {
      const long = 'ü'.repeat(28);
      await using blue = await openBlue(harness, {
        tables: [
          { name: ODD, extra: `a "b' \\` },
          { name: long, extra: 'select' },
        ],
        fill: (writer, table) => writer.insert(table, item(1)),
      });
      expect(blue.relations.map(({ table }) => table.name)).toEqual([ODD, long]);
      const reader = await blue.read();
      for (const table of blue.tables) await blue.writer.insert(table, item(2));
      const batches = await reader.drain(blue.source);
      for (const table of blue.tables) expect(insertedIds(rows, batches, table)).toEqual([2]);
      for (const [index, relation] of blue.relations.entries()) {
        const columns = relation.columns.map((_, column) => column);
        const whole = { lower: null, upper: null };
        expect(await blue.session.digester.digest(relation, columns, whole)).toMatchObject({
          rows: 2 - index,
        });
        expect(await blue.session.snapshot().split(relation, 1_000)).toEqual([]);
      }
      const fence = blue.session.fence(blue.tables);
      await fence.prepare();
      await fence.raise(1, 10_000);
      await fence.prove();
      expect(await fence.lower(1)).toBe(true);
      await fence.retire();
    });

    test('a fingerprint is that of the layouts: equal when asked again, another with another table', async () => {
      await using database = await harness.database('blue');
      const [one, two] = [
        await database.table({ name: 'one' }),
        await database.table({ name: 'two', extra: 'more' }),
      ];
      await using session = await connectSide(harness, database, { side: 'blue', migration: newMigration() });
      const first = await session.catalog.fingerprint([one, two]);
      await using writer = await database.writer();
      await writer.insert(one, item(1));
      expect(await session.catalog.fingerprint([one, two])).toBe(first);
      expect(await session.catalog.fingerprint([one])).not.toBe(first);
      const rewrites = await session.catalog.rewrites([one, two]);
      await writer.update(one, { id: 1, v: 'x' });
      expect(await session.catalog.rewrites([one, two])).toBe(rewrites);
    });

    test("the operator's schema file runs once, and is tried before where the engine can", async () => {
      await using database = await harness.database('green');
      await using session = await connectSide(harness, database, {
        side: 'green',
        migration: newMigration(),
      });
      const names = ['items', 'others'].map((name) => harness.tableName(database, name));
      const file = harness.schemaFile(database, { name: 'items', unique: true }, { name: 'others' });
      const preview = session.catalog.previewSchema(file, names);
      if (harness.engine.capabilities.transactionalSchema) {
        expect((await preview).map(({ table }) => table)).toEqual(names);
        expect(await session.catalog.tables()).toEqual([]);
      } else expect(await failure(preview)).toMatchObject({ code: 'SCHEMA_UNSUPPORTED' });
      expect(await session.catalog.applySchema(file, names)).toBe(true);
      expect(await session.catalog.applySchema(file, names)).toBe(false);
      for (const table of names) {
        const relation = await session.catalog.target(table);
        expect(relation.key.length).toBe(1);
        expect(columnIndex(relation, relation.columns[relation.key[0] as number]?.name ?? '')).toBe(
          relation.key[0],
        );
      }
      await using writer = await database.writer();
      await writer.insert(names[0] ?? { schema: '', name: '' }, item(1));
    });
  });
}
