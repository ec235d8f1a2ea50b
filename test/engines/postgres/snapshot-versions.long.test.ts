import { describe, expect, it } from 'vitest';
import { describeSource } from '../../../src/engines/postgres/catalog.ts';
import { createDigester } from '../../../src/engines/postgres/digest.ts';
import { createDatabase } from '../../support/databases.ts';
import { MANY_TYPES } from './digest-types.ts';
import { openSnapshot, readRange, WHOLE } from './snapshot-setup.ts';

describe.each([14, 15, 17] as const)('PostgreSQL %i', (version) => {
  it('has the same layout, rows and digest as 18', async () => {
    await using old = await createDatabase(version);
    await using now = await createDatabase(18);
    await using left = openSnapshot(old);
    await using right = openSnapshot(now);
    await old.query(MANY_TYPES);
    await now.query(MANY_TYPES);
    const relations = [await left.relation('t'), await right.relation('t')] as const;
    expect(relations[0].columns).toEqual(relations[1].columns);
    expect(relations[0].key).toEqual(relations[1].key);
    expect(await left.snapshot.split(relations[0], 50)).toEqual(await right.snapshot.split(relations[1], 50));
    const rows = await readRange(left.snapshot, relations[0], WHOLE);
    expect(rows).toEqual(await readRange(right.snapshot, relations[1], WHOLE));
    const columns = relations[0].columns.map((_, index) => index);
    expect(
      await createDigester(left.connections.verify, 'source').digest(relations[0], columns, WHOLE),
    ).toEqual(await createDigester(right.connections.verify, 'sink').digest(relations[1], columns, WHOLE));
  });

  it('orders text by bytes where its default collation is C', async () => {
    await using db = await createDatabase(version);
    await db.query(
      'CREATE TABLE t (k text PRIMARY KEY); CREATE TABLE c (k text COLLATE "POSIX" PRIMARY KEY)',
    );
    const [locale] = await db.query<{ datcollate: string }>(
      'SELECT datcollate FROM pg_database WHERE datname = current_database()',
    );
    const relation = await describeSource(db.client, { schema: 'public', name: 't' });
    expect(relation.version.endsWith('.bytes')).toBe(['C', 'POSIX'].includes(locale?.datcollate ?? ''));
    expect((await describeSource(db.client, { schema: 'public', name: 'c' })).version).toMatch(/\.bytes$/);
  });
});
