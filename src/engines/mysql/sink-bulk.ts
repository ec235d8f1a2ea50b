import { Readable } from 'node:stream';
import { ENCLOSE, FIELD, inHex, LINE, NOT_WHOLE, rawFits, travelOf, travelOrder } from './bulk.ts';
import type { Column, Relation } from '../../core/table.ts';
import type { Link, Outcome } from './connect.ts';
import { errnoOf, translate } from './errors.ts';
import { kindOf } from './kinds.ts';
import type { SinkColumn, SinkLayout } from './sink-layout.ts';

/** The server, or we, may not read files of the client: MySQL, older MySQL, MariaDB. */
const DISABLED = new Set([3948, 1148, 4166]);
/** The separators are not ASCII: said once for each statement, and they are taken as the bytes that they are. */
const SEPARATORS = '1638';

/** `rows`: all rows, exactly. `inexact`: the server would have changed or left out something. `disabled`: it takes no bulk at all. */
export type Loaded = { readonly rows: number } | 'inexact' | 'disabled';

/**
 * Writes rows in the bulk format with LOAD DATA LOCAL. That statement turns errors into warnings, so rows are counted and warnings
 * looked at; what is not exact is taken back, inside the open transaction.
 * @throws the driver's error, or VerdigrisError, for what has nothing to do with the rows
 */
export async function loadRows(
  link: Link,
  layout: SinkLayout,
  columns: readonly number[],
  bytes: AsyncIterable<Uint8Array>,
): Promise<Loaded> {
  await link.run('SAVEPOINT verdigris_bulk');
  const sent = { rows: 0, whole: true };
  let loaded: Loaded;
  try {
    const outcome = await link.load(loadStatement(layout, columns), () =>
      Readable.from(counted(bytes, sent), { objectMode: false }),
    );
    const exact = sent.whole && outcome.affected === sent.rows && (await harmless(link, outcome));
    loaded = exact ? { rows: sent.rows } : 'inexact';
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === null || !['SINK_CONFLICT', 'SINK_FAILED'].includes(translate(error, 'sink').code))
      throw error;
    loaded = DISABLED.has(errno) ? 'disabled' : 'inexact';
  }
  await link.run(
    typeof loaded === 'string' ? 'ROLLBACK TO SAVEPOINT verdigris_bulk' : 'RELEASE SAVEPOINT verdigris_bulk',
  );
  return loaded;
}

/** The table is still what the plan was made for: a column that has become narrower since might be rounded in silence. */
export function isAsPlanned(layout: SinkLayout, planned: Relation, columns: readonly number[]): boolean {
  return columns.every((index) => {
    const { type, dataType } = layout.columns[index] as SinkColumn;
    const kind = kindOf(dataType);
    return kind !== null && rawFits(planned.columns[index] as Column, { type, kind });
  });
}

async function* counted(
  bytes: AsyncIterable<Uint8Array>,
  sent: { rows: number; whole: boolean },
): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    if (piece[0] === NOT_WHOLE) {
      sent.whole = false;
      continue;
    }
    for (let at = piece.indexOf(LINE); at >= 0; at = piece.indexOf(LINE, at + 1)) sent.rows += 1;
    yield piece;
  }
}

/** What a server does to a value it says in a warning; how many it keeps for us to read is its own affair. */
async function harmless(link: Link, { warnings }: Outcome): Promise<boolean> {
  if (warnings === 0) return true;
  if (warnings > 1) return false;
  return (await link.rows('SHOW WARNINGS'))[0]?.[1] === SEPARATORS;
}

function loadStatement(layout: SinkLayout, columns: readonly number[]): string {
  const all = columns.map((index) => layout.columns[index] as SinkColumn);
  const order = travelOrder(all.map(({ dataType }) => dataType)).map((index) => all[index] as SinkColumn);
  const set: string[] = [];
  const fields = order.map(({ sql, dataType }, index) => {
    const travel = travelOf(dataType);
    if (travel !== 'bits' && travel !== 'bytes') return sql;
    set.push(`${sql} = ${travel === 'bits' ? `CAST(@bulk${index} AS UNSIGNED)` : `UNHEX(@bulk${index})`}`);
    return `@bulk${index}`;
  });
  return `LOAD DATA LOCAL INFILE 'verdigris' INTO TABLE ${layout.sql} CHARACTER SET utf8mb4
    FIELDS TERMINATED BY ${inHex(FIELD)} OPTIONALLY ENCLOSED BY ${inHex(ENCLOSE)} ESCAPED BY '' LINES TERMINATED BY ${inHex(LINE)}
    (${fields.join(', ')})${set.length === 0 ? '' : ` SET ${set.join(', ')}`}`;
}
