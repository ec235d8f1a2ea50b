import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Canary } from '../../core/canary.ts';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { translate, type Where } from './errors.ts';
import { ident, literal, qualified } from './sql.ts';

export interface CanaryParts {
  readonly env: SessionEnv;
  readonly withClient: <T>(work: (client: pg.Client) => Promise<T>) => Promise<T>;
  readonly where: Where;
}

/** Comment of a schema that a rehearsal made. One that was there, empty or not, is somebody's, with the privileges that they gave on it. */
const OURS = 'made for a rehearsal';

/**
 * A subscriber stops at the first row of a table that it does not have, and who publishes all tables publishes ours. (Publications alone
 * carry nothing: somebody has to read them.)
 */
export async function refuseListeners(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ publication: string; slot: string }>(
    `SELECT p.pubname AS publication, s.slot_name AS slot FROM pg_catalog.pg_publication p, pg_catalog.pg_replication_slots s
     WHERE p.puballtables AND s.database = pg_catalog.current_database() AND s.plugin = 'pgoutput' AND s.slot_name !~ '^verdigris_'
     ORDER BY 1, 2 LIMIT 1`,
  );
  const [found] = rows;
  if (found === undefined) return;
  throw new VerdigrisError(
    'PREFLIGHT_FAILED',
    `Publication ${found.publication} publishes all tables, and slot ${found.slot} may be reading it: its subscriber would stop at a table of ours.`,
    {
      remedy:
        'Let that publication name its tables, or drop the slot when nobody reads it. The state of the way back has the same effect.',
      context: { publication: found.publication, slot: found.slot },
    },
  );
}

/** The name holds a hash, since a migration's name may be longer than what is left of an identifier. */
export function createCanary({ env, withClient, where }: CanaryParts): Canary {
  const { migration, stateSchema } = env;
  const name = `canary_${createHash('sha256').update(migration).digest('hex').slice(0, 16)}`;
  const table = { schema: stateSchema, name };
  const quoted = qualified(table);
  const run = async <T>(work: (client: pg.Client) => Promise<T>): Promise<T> => {
    try {
      return await withClient(work);
    } catch (error) {
      if (error instanceof VerdigrisError) throw error;
      throw translate(error, where, { statement: 'canary' });
    }
  };
  return {
    table,
    create: () =>
      run(async (client) => {
        await refuseListeners(client);
        const { rowCount } = await client.query('SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1', [
          stateSchema,
        ]);
        if (rowCount === 0) {
          await client.query(
            `CREATE SCHEMA ${ident(stateSchema)}; COMMENT ON SCHEMA ${ident(stateSchema)} IS ${literal(OURS)}`,
          );
        }
        await client.query(`DROP TABLE IF EXISTS ${quoted}`);
        await client.query(
          `CREATE TABLE ${quoted} (id integer PRIMARY KEY, round integer NOT NULL, note text)`,
        );
      }),
    write: (rows) =>
      run(async (client) => {
        await client.query(
          `INSERT INTO ${quoted} AS c SELECT g, 1, pg_catalog.repeat('canary ', g % 20) FROM pg_catalog.generate_series(1, $1::integer) g
           ON CONFLICT (id) DO UPDATE SET round = c.round + 1`,
          [rows],
        );
      }),
    read: () =>
      run(async (client) => {
        const result = await client.query<{ rows: string; digest: string }>(
          `SELECT pg_catalog.count(*)::text AS rows, pg_catalog.md5(coalesce(pg_catalog.string_agg(c::text, ',' ORDER BY id), '')) AS digest FROM ${quoted} c`,
        );
        const row = result.rows[0];
        return { rows: Number(row?.rows ?? 0), digest: row?.digest ?? '' };
      }),
    drop: () =>
      run(async (client) => {
        await client.query(`DROP TABLE IF EXISTS ${quoted}`);
        const { rowCount } = await client.query(
          `SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1 AND pg_catalog.obj_description(oid, 'pg_namespace') = $2`,
          [stateSchema, OURS],
        );
        if (rowCount === 0) return;
        // Something else of ours may have come to stand in it meanwhile; then it stays.
        await client.query(`DROP SCHEMA ${ident(stateSchema)}`).catch(() => undefined);
      }),
  };
}
