import type { Relation, Tuple } from '../../../src/core/table.ts';
import type { KeyRange, SnapshotSource } from '../../../src/core/snapshot.ts';
import { parseConfig, type PostgresConfig } from '../../../src/engines/postgres/config.ts';
import { createConnections, type Connections } from '../../../src/engines/postgres/session-connections.ts';
import { createSnapshotSource } from '../../../src/engines/postgres/snapshot.ts';
import { describeSource } from '../../../src/engines/postgres/catalog.ts';
import type { TestDatabase } from '../../support/databases.ts';

export function configOf(url: string): PostgresConfig {
  const parsed = parseConfig({ url });
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return parsed.config;
}

export interface Opened extends AsyncDisposable {
  readonly connections: Connections;
  readonly snapshot: SnapshotSource;
  relation(name: string, schema?: string): Promise<Relation>;
}

/** A snapshot source on a test database, with the connections it uses. */
export function openSnapshot(db: Pick<TestDatabase, 'url'>): Opened {
  const connections = createConnections(configOf(db.url), 'test');
  return {
    connections,
    snapshot: createSnapshotSource(connections),
    relation: (name, schema = 'public') =>
      connections.query.use((client) => describeSource(client, { schema, name })),
    [Symbol.asyncDispose]: () => connections[Symbol.asyncDispose](),
  };
}

export async function readRange(
  snapshot: SnapshotSource,
  relation: Relation,
  range: KeyRange,
): Promise<Tuple[]> {
  await using reader = await snapshot.open({ relations: [relation], range }, new AbortController().signal);
  const rows: Tuple[] = [];
  for await (const piece of reader.rows(relation)) rows.push(...piece);
  return rows;
}

export const WHOLE: KeyRange = { lower: null, upper: null };
