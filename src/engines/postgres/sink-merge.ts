import type { RowRun } from '../../core/change.ts';
import type { MergePart } from '../../core/plan.ts';
import type { Tuple } from '../../core/table.ts';
import type { Place, SinkLayout } from './sink-layout.ts';
import { Arrays, columnList, deleteStep, keyJoin, moveStep, typeOf, type Step } from './sink-statements.ts';
import type { Param } from './sink-messages.ts';
import { cellText } from './sink-text.ts';
import { literal } from './sql.ts';

/** A merged table: rows are made and ended by the owner; what other parts bring before that waits beside it. */
interface Merged {
  readonly place: Place;
  readonly layout: SinkLayout;
  readonly waiting: string;
  /** Columns of all parts and their value while the part's row does not exist, as SQL. */
  readonly absent: ReadonlyMap<number, string>;
}

/** `place` must be that of a merged table. */
function merged(place: Place): Merged {
  const { layout } = place;
  const absent = new Map<number, string>();
  for (const part of (layout.merge?.parts ?? []) as readonly MergePart[]) {
    part.columns.forEach((column, index) => {
      const text = cellText(part.absent[index]);
      absent.set(
        column,
        text === null
          ? `NULL::${typeOf(layout, column)}`
          : `${literal(text)}::text::${typeOf(layout, column)}`,
      );
    });
  }
  return { place, layout, waiting: place.waiting as string, absent };
}

/** All part columns stand at their absent value. Compared as text: json has no equality. */
const allAbsent = ({ layout, absent }: Merged, alias: string): string =>
  [...absent]
    .map(
      ([column, value]) =>
        `${alias}.${layout.columns[column]?.sql}::text IS NOT DISTINCT FROM (${value})::text`,
    )
    .join(' AND ');

const step = (run: RowRun, place: Place, text: string, values: readonly Param[]): Step => ({
  text,
  values,
  run,
  place,
  strict: false,
});

/** The owner's row appears: it takes what waits for it. */
export function ownerInsertSteps(place: Place, run: RowRun, columns: readonly number[]): Step[] {
  const { layout, waiting, absent } = merged(place);
  const arrays = new Arrays();
  const own = columns.filter((column) => !absent.has(column));
  const select = new Map(
    own.map((column) => [column, arrays.add(run.after, column, typeOf(layout, column))]),
  );
  const parts = [...absent.keys()];
  const first = layout.columns[layout.key[0] as number]?.sql;
  const values = [
    ...own.map((column) => select.get(column)),
    ...parts.map(
      (column) =>
        `CASE WHEN h.${first} IS NULL THEN ${absent.get(column)} ELSE h.${layout.columns[column]?.sql} END`,
    ),
  ];
  const insert =
    `INSERT INTO ${place.sql} (${columnList(layout, [...own, ...parts])}) OVERRIDING SYSTEM VALUE SELECT ${values.join(', ')} ` +
    `FROM ${arrays.from} LEFT JOIN ${waiting} AS h ON ${keyJoin(layout, layout.key, (column) => select.get(column) as string, 'h')}`;
  const taken = { ...place, sql: waiting };
  return [step(run, place, insert, arrays.values), { ...deleteStep(taken, run, run.after, false), run }];
}

/** The owner's row goes: what the parts set stays behind, waiting. */
export const ownerDeleteSteps = (place: Place, run: RowRun): Step[] => [
  keepStep(place, run),
  deleteStep(place, run, run.before as readonly Tuple[]),
];

/**
 * The owner's rows move to other keys: what the parts set stays behind at the old ones, and what waits at the new ones is taken. All
 * leave before any arrives.
 */
export function ownerMoveSteps(place: Place, run: RowRun, set: readonly number[]): Step[] {
  const { layout, waiting, absent } = merged(place);
  const take = new Arrays();
  const where = keyJoin(layout, layout.key, (column) => take.add(run.after, column, typeOf(layout, column)));
  const assign = [...absent.keys()].map((column) => {
    const { sql = '' } = layout.columns[column] ?? {};
    return `${sql} = h.${sql}`;
  });
  const own = keyJoin(layout, layout.key, (column) => `h.${layout.columns[column]?.sql}`);
  const taken =
    `UPDATE ${place.sql} AS g SET ${assign.join(', ')} FROM ${waiting} AS h, ${take.from} ` +
    `WHERE ${where} AND ${own}`;
  const written = set.filter((column) => !absent.has(column));
  return [
    keepStep(place, run),
    moveStep(place, run, written, absent),
    step(run, place, taken, take.values),
    deleteStep({ ...place, sql: waiting }, run, run.after, false),
  ];
}

/** Copies what the parts set of rows that leave their key to where parts wait. */
function keepStep(place: Place, run: RowRun): Step {
  const parts = merged(place);
  const { layout, waiting, absent } = parts;
  const keys = run.before as readonly Tuple[];
  const arrays = new Arrays();
  const columns = [...layout.key, ...absent.keys()];
  const where = keyJoin(layout, layout.key, (column) => arrays.add(keys, column, typeOf(layout, column)));
  const keep =
    `INSERT INTO ${waiting} (${columnList(layout, columns)}) SELECT ${columnList(layout, columns, 'g.')} ` +
    `FROM ${place.sql} AS g JOIN ${arrays.from} ON ${where} WHERE NOT (${allAbsent(parts, 'g')})`;
  return step(run, place, keep, arrays.values);
}

/** A part's columns: into the row where it stands, else beside it. */
export function putSteps(place: Place, run: RowRun, columns: readonly number[]): Step[] {
  const parts = merged(place);
  const { layout, waiting, absent } = parts;
  const set = columns.filter((column) => absent.has(column));
  if (set.length === 0) return [];

  const update = new Arrays();
  const where = keyJoin(layout, layout.key, (column) =>
    update.add(run.after, column, typeOf(layout, column)),
  );
  const assign = set.map(
    (column) => `${layout.columns[column]?.sql} = ${update.add(run.after, column, typeOf(layout, column))}`,
  );
  const here = `UPDATE ${place.sql} AS g SET ${assign.join(', ')} FROM ${update.from} WHERE ${where}`;

  const insert = new Arrays();
  const key = new Map(
    layout.key.map((column) => [column, insert.add(run.after, column, typeOf(layout, column))]),
  );
  const all = [...absent.keys()];
  const values = all.map((column) =>
    set.includes(column) ? insert.add(run.after, column, typeOf(layout, column)) : absent.get(column),
  );
  const beside =
    `INSERT INTO ${waiting} (${columnList(layout, [...layout.key, ...all])}) ` +
    `SELECT ${[...key.values(), ...values].join(', ')} FROM ${insert.from} ` +
    `WHERE NOT EXISTS (SELECT FROM ${place.sql} AS g WHERE ${keyJoin(layout, layout.key, (column) => key.get(column) as string)}) ` +
    `ON CONFLICT (${columnList(layout, layout.key)}) DO UPDATE SET ` +
    set
      .map((column) => `${layout.columns[column]?.sql} = excluded.${layout.columns[column]?.sql}`)
      .join(', ');

  const clean = new Arrays();
  const gone = keyJoin(
    layout,
    layout.key,
    (column) => clean.add(run.after, column, typeOf(layout, column)),
    'h',
  );
  const tidy = `DELETE FROM ${waiting} AS h USING ${clean.from} WHERE ${gone} AND ${allAbsent(parts, 'h')}`;

  return [
    step(run, place, here, update.values),
    step(run, place, beside, insert.values),
    step(run, place, tidy, clean.values),
  ];
}
