import { createHash } from 'node:crypto';
import type { TargetTable } from '../../core/plan.ts';
import { tableId, type Cell } from '../../core/table.ts';
import type { Link } from './connect.ts';
import { translate } from './errors.ts';
import { ident, literal, qualified } from './sql.ts';

/**
 * Where the parts of a merged table wait. Rows are made and ended by the owner; what the other parts set belongs to the key: while there
 * is no row of the owner it waits in a table of ours beside it, with the same columns.
 */
export interface Waiting {
  readonly schema: string;
  readonly name: string;
  /** Quoted and qualified. */
  readonly sql: string;
  /** Columns of all parts and their values while the part's row does not exist. */
  readonly absent: ReadonlyMap<number, Cell>;
}

/** Which stream's waiting tables, and in which database they are. */
export interface WaitingPlace {
  readonly stateSchema: string;
  readonly migration: string;
  readonly direction: string;
}

const sum = (text: string, digits: number): string =>
  createHash('sha256').update(text).digest('hex').slice(0, digits);

/** What the names of all waiting tables of a stream begin with: names of tables and migrations may be too long to stand in them. */
const prefixOf = ({ migration, direction }: WaitingPlace): string =>
  `parts_${sum(`${migration} ${direction}`, 16)}_`;

/** Null for a table that is not merged. */
export function waitingOf(target: TargetTable, place: WaitingPlace): Waiting | null {
  if (target.merge === null) return null;
  const absent = new Map<number, Cell>();
  for (const part of target.merge.parts)
    part.columns.forEach((column, index) => absent.set(column, part.absent[index] ?? null));
  const schema = place.stateSchema;
  const name = `${prefixOf(place)}${sum(tableId(target.relation.table), 24)}`;
  return { schema, name, sql: qualified({ schema, name }), absent };
}

/**
 * Makes the table with the key and the parts' columns as they are on the sink, or makes its columns so again: an operator may have
 * widened them since. DDL: outside of any transaction.
 */
export async function prepareWaiting(link: Link, target: TargetTable, waiting: Waiting): Promise<void> {
  const { relation } = target;
  const { absent, sql } = waiting;
  const names = (columns: Iterable<number>): string =>
    [...columns].map((column) => ident(relation.columns[column]?.name ?? '')).join(', ');
  await link.run(
    `CREATE TABLE IF NOT EXISTS ${sql} (PRIMARY KEY (${names(relation.key)})) ENGINE = InnoDB
     SELECT ${names([...relation.key, ...absent.keys()])} FROM ${qualified(relation.table)} LIMIT 0`,
  );
  const changed = await link.rows(
    `SELECT g.COLUMN_NAME, g.COLUMN_TYPE, g.CHARACTER_SET_NAME, g.COLLATION_NAME, g.IS_NULLABLE
     FROM information_schema.COLUMNS h JOIN information_schema.COLUMNS g ON g.COLUMN_NAME = h.COLUMN_NAME
     WHERE h.TABLE_SCHEMA = ${literal(waiting.schema)} AND h.TABLE_NAME = ${literal(waiting.name)}
       AND g.TABLE_SCHEMA = ${literal(relation.table.schema)} AND g.TABLE_NAME = ${literal(relation.table.name)}
       AND NOT (g.COLUMN_TYPE <=> h.COLUMN_TYPE AND g.COLLATION_NAME <=> h.COLLATION_NAME AND g.IS_NULLABLE <=> h.IS_NULLABLE)`,
  );
  if (changed.length === 0) return;
  const modify = changed.map(([name, type, charset, collation, nullable]) => {
    const text = charset === null ? '' : ` CHARACTER SET ${charset} COLLATE ${collation}`;
    return `MODIFY ${ident(name as string)} ${type}${text} ${nullable === 'YES' ? 'NULL' : 'NOT NULL'}`;
  });
  // A value waits that green could not take now: it is refused, and named, when its row comes.
  await link.run(`ALTER TABLE ${sql} ${modify.join(', ')}`).catch((error: unknown) => {
    if (translate(error, 'sink').code !== 'SINK_CONFLICT') throw error;
  });
}

/** Drops all waiting tables of a stream. */
export async function dropWaiting(link: Link, place: WaitingPlace): Promise<void> {
  const prefix = prefixOf(place);
  const tables = await link.rows(
    `SELECT TABLE_NAME FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = ${literal(place.stateSchema)} AND LEFT(TABLE_NAME, ${prefix.length}) = ${literal(prefix)}`,
  );
  for (const [name] of tables)
    await link.run(`DROP TABLE IF EXISTS ${qualified({ schema: place.stateSchema, name: name as string })}`);
}
