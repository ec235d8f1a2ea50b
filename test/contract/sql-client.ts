import pg from 'pg';
import type { ProxyClient } from './proxy.ts';

/** A client behind the proxy that asks a table `whoami` which side it is. */
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
