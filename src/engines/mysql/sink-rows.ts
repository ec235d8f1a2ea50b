import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Cell, type Tuple } from '../../core/table.ts';
import type { Link, Outcome } from './connect.ts';
import { columnOf, constraintOf, errnoOf, ERRNO, translate } from './errors.ts';
import { nameList, rowSql, type SinkLayout } from './sink-layout.ts';

/** Bytes of one statement. */
const STATEMENT_BYTES = 512 * 1024;

export interface RowsOptions {
  /** What follows the rows in the statement. */
  readonly tail?: string;
  /** A duplicate is not the end: another way is tried. Then the driver's error comes as it is, and no row is looked for. */
  readonly tentative?: boolean;
  /** Quoted name of another table of ours that takes these columns; default: the layout's. */
  readonly into?: string;
}

/**
 * Rows in statements of half a megabyte.
 * @throws VerdigrisError SINK_CONFLICT with table, key and column of the row that the server refuses or would change
 */
export async function insertRows(
  link: Link,
  layout: SinkLayout,
  columns: readonly number[],
  rows: readonly Tuple[],
  options: RowsOptions = {},
): Promise<void> {
  const statement = new RowsStatement(link, layout, columns, options);
  let first = 0;
  let parts: string[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (parts.length > 0) await statement.write(parts, rows, first);
    first += parts.length;
    parts = [];
    bytes = 0;
  };
  for (const row of rows) {
    const text = named(layout, row, () => rowSql(layout, columns, row));
    if (bytes + text.length > STATEMENT_BYTES) await flush();
    parts.push(text);
    bytes += text.length;
  }
  await flush();
}

/** Tail of an insert that sets these columns where a row with the key is there already. */
export function overwriting({ flavour }: Link, layout: SinkLayout, columns: readonly number[]): string {
  const mysql = flavour === 'mysql';
  const assign = columns
    .map((column) => nameList(layout, [column]))
    .map((name) => (mysql ? `${name} = verdigris_new.${name}` : `${name} = VALUES(${name})`));
  return `${mysql ? ' AS verdigris_new' : ''} ON DUPLICATE KEY UPDATE ${assign.join(',')}`;
}

class RowsStatement {
  readonly #link: Link;
  readonly #layout: SinkLayout;
  readonly #head: string;
  readonly #options: RowsOptions;

  constructor(link: Link, layout: SinkLayout, columns: readonly number[], options: RowsOptions) {
    this.#link = link;
    this.#layout = layout;
    this.#head = `INSERT INTO ${options.into ?? layout.sql} (${nameList(layout, columns)}) VALUES `;
    this.#options = options;
  }

  async write(parts: readonly string[], rows: readonly Tuple[], first: number): Promise<void> {
    try {
      const outcome = await this.#send(parts);
      await noWarnings(this.#link, outcome, this.#layout, (row) => rows[first + row]);
    } catch (error) {
      if (isFinal(error, this.#options.tentative)) await this.#name(parts, rows, first);
      throw error;
    }
  }

  #send(parts: readonly string[]): Promise<Outcome> {
    return this.#link.run(`${this.#head}${parts.join(',')}${this.#options.tail ?? ''}`);
  }

  /**
   * The server took back the whole statement and the transaction is still open, to be rolled back by whoever began it: until then the
   * rows are tried one by one.
   */
  async #name(parts: readonly string[], rows: readonly Tuple[], first: number): Promise<void> {
    for (const [index, part] of parts.entries()) {
      try {
        await this.#send([part]);
      } catch (error) {
        throw isFinal(error, this.#options.tentative)
          ? refusedRow(error, this.#layout, rows[first + index])
          : error;
      }
    }
  }
}

/** The server refused what it was given, and nothing else is tried. */
export function isFinal(error: unknown, tentative = false): boolean {
  if (error instanceof VerdigrisError || (tentative && errnoOf(error) === ERRNO.DUPLICATE_ENTRY))
    return false;
  return translate(error, 'sink').code === 'SINK_CONFLICT';
}

/** What the server said of a row, with the row's key and no other value of it. */
export function refusedRow(error: unknown, layout: SinkLayout, row: Tuple | undefined): VerdigrisError {
  const table = showTable(layout.table);
  const column = columnOf(error, new Set(layout.relation.columns.map(({ name }) => name)));
  const constraint = constraintOf(error);
  const translated = translate(error, 'sink', {
    table,
    ...keyFacts(layout, row),
    ...(column === null ? {} : { column }),
    ...(constraint === null ? {} : { constraint }),
  });
  const where = column === null ? '' : `, column ${column}`;
  return new VerdigrisError(
    translated.code,
    `A change does not fit into ${table}${where}: ${translated.message}.`,
    {
      context: translated.context,
    },
  );
}

const keyFacts = (layout: SinkLayout, row: Tuple | undefined): Readonly<Record<string, unknown>> =>
  row === undefined || layout.key.length === 0
    ? {}
    : {
        key: Object.fromEntries(
          layout.key.map((column) => [layout.relation.columns[column]?.name ?? '', shown(row[column])]),
        ),
      };

const shown = (cell: Cell | undefined): string | null =>
  cell === undefined || cell === null || typeof cell === 'symbol' ? null : String(cell);

/** What is refused before it is sent is named as well. */
function named(layout: SinkLayout, row: Tuple, work: () => string): string {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof VerdigrisError) || error.code !== 'SINK_CONFLICT') throw error;
    const table = showTable(layout.table);
    throw new VerdigrisError(error.code, `${table}: ${error.message}`, {
      context: { ...error.context, table, ...keyFacts(layout, row) },
    });
  }
}

/** 1681, 1287: something in the statement is deprecated. */
const DEPRECATED = new Set(['1681', '1287']);

/**
 * A server that changes a value says so in a warning and goes on.
 * @throws VerdigrisError SINK_CONFLICT, also when the server gave warnings that it does not tell
 */
export async function noWarnings(
  link: Link,
  { warnings }: Outcome,
  layout: SinkLayout,
  rowOf: (row: number) => Tuple | undefined,
): Promise<void> {
  if (warnings === 0) return;
  const told = await link.rows('SHOW WARNINGS');
  const bad = told.find(([, code]) => !DEPRECATED.has(code ?? ''));
  if (bad === undefined && told.length >= warnings) return;
  const [, code = null, message = null] = bad ?? [];
  const row = /at row (\d+)$/.exec(message ?? '')?.[1];
  const column = columnOf({ message }, new Set(layout.relation.columns.map(({ name }) => name)));
  const table = showTable(layout.table);
  throw new VerdigrisError(
    'SINK_CONFLICT',
    `The server would change a value of ${table}${column === null ? '' : `, column ${column}`} (warning ${code ?? 'that it does not tell'}).`,
    {
      context: {
        table,
        ...(code === null ? {} : { errno: Number(code) }),
        ...(row === undefined ? {} : keyFacts(layout, rowOf(Number(row) - 1))),
        ...(column === null ? {} : { column }),
      },
    },
  );
}
