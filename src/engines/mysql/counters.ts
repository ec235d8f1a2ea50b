import type { Counter, CounterMove, CounterPair, Counters } from '../../core/counters.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable } from '../../core/table.ts';
import type { WithLink } from './catalog.ts';
import type { Link } from './connect.ts';
import { translate } from './errors.ts';
import { ident, literal, qualified } from './sql.ts';

const BITS: Readonly<Record<string, bigint>> = {
  tinyint: 8n,
  smallint: 16n,
  mediumint: 24n,
  int: 32n,
  bigint: 64n,
};

interface AutoIncrement {
  readonly counter: Counter;
  readonly table: { readonly schema: string; readonly name: string };
  readonly column: string;
}

/** Auto-increment columns. `last` is the value that was handed out last, so the next one less the increment. */
export function createCounters(options: {
  readonly withLink: WithLink;
  readonly database: string;
  readonly side: string;
}): Counters {
  const session = async <T>(work: (link: Link) => Promise<T>): Promise<T> => {
    try {
      return await options.withLink(work);
    } catch (error) {
      throw translate(error, 'state', { act: 'counters', side: options.side });
    }
  };
  return {
    list: () =>
      session(async (link) => (await readCounters(link, options.database)).map(({ counter }) => counter)),
    advance: (pairs, headroom) =>
      session(async (link) => {
        const known = new Map(
          (await readCounters(link, options.database)).map((one) => [one.counter.name, one]),
        );
        const moves: CounterMove[] = [];
        for (const pair of pairs) {
          const one = known.get(pair.here);
          if (one === undefined)
            throw new VerdigrisError(
              'SCHEMA_TABLE_MISSING',
              `The auto-increment column ${pair.here} does not exist on ${options.side}`,
              {
                context: { counter: pair.here },
              },
            );
          moves.push(await advanceOne(link, one, pair, headroom));
        }
        return moves;
      }),
  };
}

async function readCounters(link: Link, database: string): Promise<readonly AutoIncrement[]> {
  const increment = BigInt((await link.value('SELECT @@global.auto_increment_increment')) ?? '1');
  const rows = await link.rows(
    `SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, coalesce(t.AUTO_INCREMENT, 1)
     FROM information_schema.COLUMNS c JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
     WHERE c.TABLE_SCHEMA = ${literal(database)} AND c.EXTRA LIKE '%auto_increment%' AND t.TABLE_TYPE = 'BASE TABLE'
     ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME`,
  );
  return rows.flatMap((row) => {
    const [schema, name, column, type, columnType, next] = row as readonly string[];
    const bits = BITS[(type as string).toLowerCase()];
    // An auto-increment FLOAT has no bound that a counter could name.
    if (bits === undefined || schema === undefined || name === undefined || column === undefined) return [];
    const maximum = / unsigned\b/i.test(columnType as string) ? 2n ** bits - 1n : 2n ** (bits - 1n) - 1n;
    const table = { schema, name };
    const counter: Counter = {
      name: `${showTable(table)}.${column}`,
      owner: { schema, table: name, column },
      last: BigInt(next as string) - increment,
      increment,
      minimum: 1n,
      maximum,
      cycles: false,
    };
    return [{ counter, table, column }];
  });
}

async function advanceOne(
  link: Link,
  { counter, table, column }: AutoIncrement,
  pair: CounterPair,
  headroom: number,
): Promise<CounterMove> {
  const present = BigInt(
    (await link.value(`SELECT coalesce(MAX(${ident(column)}), 0) FROM ${qualified(table)}`)) ?? '0',
  );
  const other = pair.other === null ? 0n : pair.other.last;
  const from = counter.last;
  const behind = [from, other, present].reduce((most, one) => (one > most ? one : most), 0n);
  const step = counter.increment;
  const wanted = pair.other === null && behind === from ? from : behind + BigInt(headroom) * step;
  const clipped = wanted > counter.maximum - step ? counter.maximum - step : wanted;
  const to = clipped < from ? from : clipped;
  if (to > from) await link.run(`ALTER TABLE ${qualified(table)} AUTO_INCREMENT = ${to + step}`);
  const warning =
    wanted > clipped
      ? `only ${counter.maximum - behind} values are left before the end of ${counter.name}`
      : null;
  return { name: counter.name, from, to, warning };
}
