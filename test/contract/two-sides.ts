import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import type { ProxyClient } from './proxy.ts';

export interface TwoSides {
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
}

/**
 * Databases of one name on two servers, for proxies that know servers and no databases; each has a table that says which it is. One pair
 * for the whole test file: nobody writes to them.
 */
export function twoSides(): TwoSides {
  const sides: { blue?: TestDatabase; green?: TestDatabase } = {};
  beforeAll(async () => {
    sides.blue = await createDatabase(16);
    sides.green = await createDatabase(18, sides.blue.name);
    for (const [side, database] of Object.entries(sides)) {
      await database.query('CREATE TABLE whoami (side text)');
      await database.query('INSERT INTO whoami VALUES ($1)', [side]);
    }
  });
  afterAll(async () => {
    await sides.blue?.[Symbol.asyncDispose]();
    await sides.green?.[Symbol.asyncDispose]();
  });
  const made = (side: 'blue' | 'green'): TestDatabase => {
    const database = sides[side];
    if (database === undefined) throw new Error('the databases are made before the first test');
    return database;
  };
  return {
    get blue() {
      return made('blue');
    },
    get green() {
      return made('green');
    },
  };
}

/** A client behind the proxy that asks the table which side it is. */
export async function sqlClient(url: string): Promise<ProxyClient> {
  const connection = new pg.Client(url);
  connection.on('error', () => undefined);
  await connection.connect();
  return {
    ask: async () => {
      const { rows } = await connection.query<{ side: 'blue' | 'green' }>({
        name: 'ask',
        text: 'SELECT side FROM whoami WHERE $1',
        values: [true],
      });
      return rows[0]?.side as 'blue' | 'green';
    },
    begin: async () => {
      await connection.query('BEGIN');
    },
    commit: async () => {
      await connection.query('COMMIT');
    },
    [Symbol.asyncDispose]: async () => {
      await connection.end().catch(() => undefined);
    },
  };
}
