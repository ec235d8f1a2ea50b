import type pg from 'pg';
import type { Counter, CounterMove, CounterPair, Counters } from '../../core/counters.ts';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { translate } from './errors.ts';
import type { ConnectionPool } from './session-pool.ts';
import { ident, qualified } from './sql.ts';

/** A sequence with what only this engine knows. */
interface Sequence {
  readonly counter: Counter;
  readonly table: TableName;
  /** False: `last` itself has not been handed out yet. */
  readonly called: boolean;
  /** Bounds of the owning column's type, which may be narrower than the sequence's own. */
  readonly columnBounds: { readonly minimum: bigint; readonly maximum: bigint } | null;
  /** Values that each session takes at once and that may be handed out later without a look at the sequence. */
  readonly cache: bigint;
}

interface SequenceRow {
  readonly schema: string;
  readonly name: string;
  readonly increment: string;
  readonly minimum: string;
  readonly maximum: string;
  readonly cycles: string;
  readonly cache: string;
  readonly owner_schema: string | null;
  readonly owner_table: string | null;
  readonly owner_column: string | null;
  readonly owner_bits: string | null;
}

/** Counters are moved while clients wait. */
const PRESENT_MS = 2_000;

/** What the connections of {@link createCounters} need: a side that is fenced is read-only by default. */
export const COUNTER_SETTINGS = { default_transaction_read_only: 'off' } as const;

// deptype a: owned by a column (serial, OWNED BY), i: identity. Temporary sequences belong to one session, those of the state
// schema to us. One that this role may not read is somebody else's; preflight names those.
const SEQUENCES = `
SELECT n.nspname AS schema, c.relname AS name, s.seqincrement::text AS increment, s.seqmin::text AS minimum,
       s.seqmax::text AS maximum, s.seqcycle::text AS cycles, s.seqcache::text AS cache,
       tn.nspname AS owner_schema, t.relname AS owner_table, a.attname AS owner_column,
       CASE a.atttypid WHEN 'int2'::regtype THEN '16' WHEN 'int4'::regtype THEN '32' END AS owner_bits
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
     AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', $1) AND n.nspname NOT LIKE 'pg\\_toast%' AND c.relpersistence <> 't'
  AND has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE false END
ORDER BY n.nspname, c.relname`;

/**
 * Sequences of one side: owned, identity and owned by nothing. Named `schema.name` as {@link showTable} shows a table. The connection
 * stays for a while: the gates have just looked when clients wait for the counters to be moved.
 */
export function createCounters(options: {
  readonly connections: ConnectionPool;
  readonly env: SessionEnv;
}): Counters {
  const { connections, env } = options;
  const session = async <T>(act: (client: pg.Client) => Promise<T>): Promise<T> => {
    try {
      return await connections.use(act);
    } catch (error) {
      throw translate(error, 'state', { act: 'counters', side: env.side });
    }
  };
  return {
    list: () =>
      session(async (client) =>
        (await readSequences(client, env.stateSchema)).map((sequence) => sequence.counter),
      ),
    advance: (pairs, headroom) =>
      session(async (client) => {
        const sequences = new Map(
          (await readSequences(client, env.stateSchema)).map((sequence) => [sequence.counter.name, sequence]),
        );
        const moves: CounterMove[] = [];
        for (const pair of pairs) {
          const sequence = sequences.get(pair.here);
          if (sequence === undefined) {
            throw new VerdigrisError(
              'SCHEMA_TABLE_MISSING',
              `The sequence ${pair.here} does not exist on ${env.side}`,
              {
                context: { sequence: pair.here },
              },
            );
          }
          moves.push(await advanceOne(client, sequence, pair, headroom));
        }
        return moves;
      }),
  };
}

async function readSequences(client: pg.Client, stateSchema: string): Promise<readonly Sequence[]> {
  const { rows } = await client.query<SequenceRow>(SEQUENCES, [stateSchema]);
  const values = await readValues(client, rows);
  return rows.map((row, index): Sequence => {
    const table = { schema: row.schema, name: row.name };
    const value = values[index] as { last: string; called: boolean };
    return {
      table,
      called: value.called,
      columnBounds: row.owner_bits === null ? null : boundsOf(BigInt(row.owner_bits)),
      cache: BigInt(row.cache),
      counter: {
        name: showTable(table),
        owner:
          row.owner_schema === null
            ? null
            : {
                schema: row.owner_schema,
                table: row.owner_table as string,
                column: row.owner_column as string,
              },
        last: BigInt(value.last),
        increment: BigInt(row.increment),
        minimum: BigInt(row.minimum),
        maximum: BigInt(row.maximum),
        cycles: row.cycles === 'true',
      },
    };
  });
}

const boundsOf = (bits: bigint): { minimum: bigint; maximum: bigint } => ({
  minimum: -(1n << (bits - 1n)),
  maximum: (1n << (bits - 1n)) - 1n,
});

/** `last_value` and `is_called` stand in the sequence itself; some hundreds are read per statement. */
async function readValues(
  client: pg.Client,
  names: readonly { readonly schema: string; readonly name: string }[],
): Promise<readonly { last: string; called: boolean }[]> {
  const values: { last: string; called: boolean }[] = [];
  for (let start = 0; start < names.length; start += 200) {
    const sql = names
      .slice(start, start + 200)
      .map(
        (name, index) => `SELECT ${index} AS i, last_value::text AS last, is_called FROM ${qualified(name)}`,
      )
      .join(' UNION ALL ');
    const { rows } = await client.query<{ last: string; is_called: string }>(`${sql} ORDER BY i`);
    for (const row of rows) values.push({ last: row.last, called: row.is_called === 't' });
  }
  return values;
}

/** What decides where a sequence is moved. */
export interface Place {
  readonly increment: bigint;
  readonly minimum: bigint;
  readonly maximum: bigint;
  readonly cycles: boolean;
  /** Values known to be taken, of both sides and of the owning column; the first one also fixes the remainder by the increment. */
  readonly used: readonly [bigint, ...bigint[]];
  /** What one session may hold back. */
  readonly cache: bigint;
  /** Steps. */
  readonly headroom: number;
}

/** Where a sequence must stand so that every value it gives from there on is new. Pure. */
export function nextPlace(place: Place): { readonly to: bigint; readonly warning: string | null } {
  const { increment, minimum, maximum, used } = place;
  const up = increment > 0n;
  const furthest = used.reduce((best, value) => ((up ? value > best : value < best) ? value : best));
  // Sequences that are interleaved between writers (increment 2, odd and even) stay in their own class.
  const remainder = (furthest - used[0]) % increment;
  const aligned = remainder === 0n ? furthest : furthest - remainder + increment;
  const wanted = aligned + increment * (BigInt(Math.ceil(place.headroom)) + place.cache);
  const bound = up ? maximum : minimum;
  if (up ? wanted <= bound : wanted >= bound) return { to: wanted, warning: null };
  const beyond = up ? furthest > bound : furthest < bound;
  const what = beyond
    ? `values already lie beyond its bound ${bound}`
    : `its bound ${bound} is closer than the wanted headroom`;
  const after = place.cycles ? 'it starts over from its other end' : 'no further value can be drawn';
  return { to: bound, warning: `${what}: it was set to the bound, ${after}` };
}

async function advanceOne(
  client: pg.Client,
  here: Sequence,
  pair: CounterPair,
  headroom: number,
): Promise<CounterMove> {
  const { counter, columnBounds } = here;
  const up = counter.increment > 0n;
  const notes: string[] = [];
  if (pair.other !== null && pair.other.increment > 0n !== up) {
    notes.push(`the other side counts ${up ? 'down' : 'up'}, this one ${up ? 'up' : 'down'}`);
  }
  const used: [bigint, ...bigint[]] = [pair.other?.last ?? counter.last, counter.last];
  // A sequence that cycles is not where its highest value is.
  const present = counter.cycles ? null : await furthestPresent(client, counter);
  if (typeof present === 'bigint') used.push(present);
  if (typeof present === 'string') notes.push(present);
  const { to, warning } = nextPlace({
    increment: counter.increment,
    cycles: counter.cycles,
    minimum:
      columnBounds !== null && columnBounds.minimum > counter.minimum
        ? columnBounds.minimum
        : counter.minimum,
    maximum:
      columnBounds !== null && columnBounds.maximum < counter.maximum
        ? columnBounds.maximum
        : counter.maximum,
    used,
    cache: here.cache,
    headroom,
  });
  if (warning !== null) notes.push(warning);
  const move = {
    name: counter.name,
    from: counter.last,
    warning: notes.length === 0 ? null : notes.join('; '),
  };
  // Nothing is ever moved back. At the same place it may still have to be told that its value was handed out.
  const there = to === counter.last && here.called;
  if (there || (up ? to < counter.last : to > counter.last)) return { ...move, to: counter.last };
  await client.query('SELECT pg_catalog.setval($1::regclass, $2::bigint, true)', [
    qualified(here.table),
    to.toString(),
  ]);
  return { ...move, to };
}

/**
 * The furthest value in the owning column, in the direction of the increment; null when there is none or it is no integer, a
 * sentence when it could not be read in time (no index on it).
 */
async function furthestPresent(client: pg.Client, counter: Counter): Promise<bigint | string | null> {
  const { owner } = counter;
  if (owner === null) return null;
  const best = counter.increment > 0n ? 'max' : 'min';
  const table = { schema: owner.schema, name: owner.table };
  try {
    await client.query(`SET statement_timeout = ${PRESENT_MS}`);
    const { rows } = await client.query<{ value: string | null }>(
      `SELECT ${best}(${ident(owner.column)})::text AS value FROM ${qualified(table)}`,
    );
    const value = rows[0]?.value ?? null;
    return value !== null && /^-?\d+$/.test(value) ? BigInt(value) : null;
  } catch (error) {
    if ((error as { code?: string }).code !== '57014') throw error;
    return `the values of ${showTable(table)} could not be looked at within ${PRESENT_MS} ms (no index on ${owner.column}?)`;
  } finally {
    await client.query('RESET statement_timeout');
  }
}
