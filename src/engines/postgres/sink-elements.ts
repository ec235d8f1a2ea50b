import type { RowRun } from '../../core/change.ts';
import type { TargetTable } from '../../core/plan.ts';
import { keyText, tableId, UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import { elementColumns, type Place, type SinkLayout } from './sink-layout.ts';
import { keyMoved } from './sink-program.ts';
import { Arrays, housekeeping, takeStep, typeOf, wrongCountUnless, type Step } from './sink-statements.ts';
import { ident, qualified } from './sql.ts';

/*
 * Elements of arrays that come one by one. Between two groups a parent has rows in the storage only where its array cannot
 * tell all: where the ordinals have gaps, or where elements are there and the parent is not. Else the array is the truth,
 * and the elements are taken from it when a group touches the parent.
 */

/** The parents of an array whose elements a group may change: rows of which only the key is there. */
export interface TouchedParents {
  readonly elements: Place;
  readonly parent: Place;
  readonly rows: readonly Tuple[];
}

/** No unique index: ordinals are shifted by updates in any order, and judged when all is done. */
export function elementStorage(name: string, { elements }: TargetTable): readonly string[] {
  const { of } = elements as NonNullable<TargetTable['elements']>;
  const keys = of.key.map((index, at) => `${ident(of.columns[index]?.name ?? '')} AS k${at + 1}`);
  return [
    `CREATE TABLE ${name} AS SELECT ${keys.join(', ')}, NULL::integer AS ordinal, NULL::json AS element
     FROM ${qualified(of.table)} WITH NO DATA`,
    `CREATE INDEX ON ${name} (${of.key.map((_, at) => `k${at + 1}`).join(', ')})`,
  ];
}

/** Which parents the runs touch: those of every element, and those that come, go or move, since elements do not go along by themselves. */
export function touchedParents(
  runs: readonly RowRun[],
  elements: Place,
  parent: Place,
): TouchedParents | null {
  const { relation } = parent.layout;
  const rows = new Map<string, Tuple>();
  const add = (key: readonly Cell[]): void => {
    const row: Cell[] = relation.columns.map(() => UNCHANGED);
    for (const [at, index] of relation.key.entries()) row[index] = key[at] as Cell;
    rows.set(keyText(relation, row), row);
  };
  const ofElements = tableId(elements.layout.table);
  const ofParent = tableId(parent.layout.table);
  for (const run of runs) {
    const id = tableId(run.relation.table);
    if (id === ofElements) {
      for (const row of [...run.after, ...run.before]) if (row !== null) add(row);
    } else if (id === ofParent && run.op !== 'put') {
      const key = (row: Tuple): readonly Cell[] => relation.key.map((index) => row[index] as Cell);
      for (const [at, row] of run.after.entries()) {
        if (run.op !== 'update') add(key(row));
        else if (keyMoved(parent.layout, run, at))
          for (const one of [row, run.before[at]]) add(key(one as Tuple));
      }
      if (run.op !== 'update') for (const row of run.before) if (row !== null) add(key(row));
    }
  }
  return rows.size === 0 ? null : { elements, parent, rows: [...rows.values()] };
}

/** `t`: the parents, each once. Keys are compared as values, since a text may be written differently. */
function parents({ parent, rows }: TouchedParents): {
  arrays: Arrays;
  from: string;
  on: (alias: string) => string;
} {
  const { layout } = parent;
  const arrays = new Arrays();
  const keys = layout.key.map(
    (column, at) => `${arrays.add(rows, column, typeOf(layout, column))} AS k${at + 1}`,
  );
  const from = `(SELECT DISTINCT ${keys.join(', ')} FROM ${arrays.from}) AS t`;
  return {
    arrays,
    from,
    on: (alias) => layout.key.map((_, at) => `${alias}.k${at + 1} = t.k${at + 1}`).join(' AND '),
  };
}

const parentKey = (layout: SinkLayout, alias = 't'): string =>
  layout.key.map((column, at) => `g.${layout.columns[column]?.sql} = ${alias}.k${at + 1}`).join(' AND ');

/** The text of an array of the elements in the storage. */
const ARRAY = `'[' || coalesce(pg_catalog.string_agg(e.element::text, ', ' ORDER BY e.ordinal), '') || ']'`;

const arrayOf = ({ elements, parent }: TouchedParents): string =>
  parent.layout.columns[elements.layout.elements?.array ?? -1]?.sql ?? '';

/** Before the runs: the elements of parents that have none in the storage, from their arrays. */
export function takeElements(touched: TouchedParents, real: Place): Step[] {
  const { elements, parent } = touched;
  const { arrays, from, on } = parents(touched);
  const keys = parent.layout.key.map((_, at) => `t.k${at + 1}`).join(', ');
  const array = `g.${arrayOf(touched)}::text::json`;
  const list = `CASE WHEN pg_catalog.json_typeof(${array}) = 'array' THEN ${array} ELSE '[]'::json END`;
  const text =
    `INSERT INTO ${elements.sql} (${elementColumns(elements.layout.relation).join(', ')}) SELECT ${keys}, e.n, e.v ` +
    `FROM ${from} JOIN ${parent.sql} AS g ON ${parentKey(parent.layout)} ` +
    `CROSS JOIN LATERAL pg_catalog.json_array_elements(${list}) WITH ORDINALITY AS e(v, n) ` +
    `WHERE NOT EXISTS (SELECT FROM ${elements.sql} AS x WHERE ${on('x')})`;
  return [
    // In the exact fallback the parents have to stand where the other statements look for them.
    ...(parent.shadow ? [takeStep(real, parent, touched.rows)] : []),
    { ...housekeeping(text, arrays.values), place: elements },
  ];
}

/** After the runs: the arrays of all parents that are there; then what the array holds as well is given up again. */
export function foldElements(touched: TouchedParents): Step[] {
  const { elements, parent } = touched;
  const { layout } = parent;
  const array = arrayOf(touched);
  const type = typeOf(layout, elements.layout.elements?.array ?? -1);
  const step = (text: string, arrays: Arrays): Step => ({
    ...housekeeping(text, arrays.values),
    place: elements,
  });

  const check = parents(touched);
  const unique =
    `SELECT ${wrongCountUnless('coalesce(pg_catalog.bool_and(o.c = 1), true)')} FROM (SELECT count(*) AS c FROM ${check.from} ` +
    `JOIN ${elements.sql} AS e ON ${check.on('e')} GROUP BY ${layout.key.map((_, at) => `t.k${at + 1}`).join(', ')}, e.ordinal) AS o`;

  const write = parents(touched);
  const made = `SELECT ${ARRAY} AS a, count(*) AS c FROM ${elements.sql} AS e WHERE ${write.on('e')}`;
  const fold =
    `UPDATE ${parent.sql} AS g SET ${array} = n.a::${type} FROM ${write.from}, LATERAL (${made}) AS n WHERE ${parentKey(layout)} ` +
    `AND g.${array}::text IS DISTINCT FROM n.a::${type}::text AND NOT (g.${array} IS NULL AND n.c = 0)`;

  const release = parents(touched);
  const rest =
    `DELETE FROM ${elements.sql} AS e USING ${release.from}, ` +
    `LATERAL (SELECT count(*) AS c, min(o.ordinal) AS low, max(o.ordinal) AS high FROM ${elements.sql} AS o WHERE ${release.on('o')}) AS s ` +
    `WHERE ${release.on('e')} AND s.low = 1 AND s.high = s.c AND EXISTS (SELECT FROM ${parent.sql} AS g WHERE ${parentKey(layout)})`;
  return [step(unique, check.arrays), step(fold, write.arrays), step(rest, release.arrays)];
}

/**
 * Gives up what was kept of arrays that somebody else has written since: the application, while the stream did not run. Their elements are
 * numbered anew on the other side.
 */
export function dropStale(elements: Place, parent: Place): Step {
  const { layout } = parent;
  const index = elements.layout.elements?.array ?? -1;
  const same = layout.key.map((_, at) => `e.k${at + 1} = x.k${at + 1}`).join(' AND ');
  return housekeeping(
    `DELETE FROM ${elements.sql} AS x USING ${parent.sql} AS g WHERE ${parentKey(layout, 'x')} AND g.${layout.columns[index]?.sql}::text ` +
      `IS DISTINCT FROM (SELECT ${ARRAY} FROM ${elements.sql} AS e WHERE ${same})::${typeOf(layout, index)}::text`,
  );
}
