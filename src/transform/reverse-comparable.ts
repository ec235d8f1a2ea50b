import { showTable, type Cell, type Column, type Tuple } from '../core/table.ts';
import type { TargetTable } from '../core/plan.ts';
import { BadValue } from './bad-value.ts';
import { canonicalOf } from './canonical.ts';
import { sameText, type Comparable } from './comparable.ts';
import { indexesByName } from './feed.ts';
import type { BackDraft, BlueDraft } from './reverse-draft.ts';

/** As {@link Comparable}, with the sides exchanged: `table` is blue's, `sources` are green's, the one that owns the rows first. */
export interface ReverseComparable extends Comparable {
  /** True for rows of blue (as a sink) that green does not have on purpose: they are to be left out. Null: there are none. */
  readonly ignores: ((tuple: Tuple) => boolean) | null;
  /** Why blue may have more rows than that, which only a look at other tables would tell; null when it may not. */
  readonly mayHaveMore: string | null;
}

export function reverseComparable(draft: BlueDraft, table: TargetTable): ReverseComparable {
  const { relation } = draft;
  const columns: number[] = [];
  const notCompared: { column: string; reason: string }[] = [];
  for (const [index, column] of relation.columns.entries()) {
    const way = draft.columns.find((one) => one.to === index);
    const reason = column.generated
      ? 'blue computes it'
      : way === undefined
        ? 'the log of blue does not carry it'
        : way.way === 'side-table'
          ? 'it is made of several rows; compared in the other direction'
          : way.reason;
    if (reason === '') columns.push(index);
    else notCompared.push({ column: column.name, reason });
  }
  const written = draft.drafts.filter((back) => back.role !== 'element');
  const row = written.find((back) => back.role !== 'part');
  const [alone] = row === undefined ? written : [];
  const part = (row ?? alone)?.feed.target.role === 'part';
  return {
    table,
    sources: written.map((back) => back.feed.green),
    columns,
    notCompared,
    canonical: relation.columns.map((column, index) => {
      const program = (row ?? alone)?.ways.find((one) => one.to === index)?.way.checks[0];
      return program?.document?.unordered ?? canonicalOf(column);
    }),
    direct: row === undefined ? null : directOf(row, written.length, columns),
    ignores: row !== undefined ? ignoresOf(row) : alone === undefined ? null : hasNothingOf(alone),
    mayHaveMore: part
      ? `rows of ${showTable(draft.blue.table)} without one of the table that makes the rows of ${(row ?? alone)?.feed.name ?? ''}`
      : null,
  };
}

/** Both servers can digest the same columns: every compared column is copied from the only green table. */
function directOf(row: BackDraft, tables: number, columns: readonly number[]): Comparable['direct'] {
  if (tables > 1 || row.role !== 'row' || row.presence !== null || row.conditions.length > 0) return null;
  const from: number[] = [];
  for (const to of columns) {
    const way = row.ways.find((one) => one.to === to)?.way;
    const input = way?.inputs[0];
    if (way === undefined || input === undefined || way.checks.length > 0 || way.inputs.length > 1)
      return null;
    if (!sameText(row.feed.green.columns[input] as Column, row.relation.columns[to] as Column)) return null;
    from.push(input);
  }
  return { from, columns };
}

/** Rows that set nothing: green does not tell them from none. */
function hasNothingOf({ off }: BackDraft): (tuple: Tuple) => boolean {
  return (tuple) => [...off].every(([to, cell]) => tuple[to] === cell);
}

/** Rows that `when` does not take, and parts whose row cannot be told from none. */
function ignoresOf({ feed, conditions, relation, presence }: BackDraft): ((tuple: Tuple) => boolean) | null {
  const uncertain = presence !== null && !presence.certain;
  if (conditions.length === 0 && !uncertain) return null;
  const places = indexesByName(feed.blue, relation);
  const payload = feed.target.programs.filter((one) => !feed.target.relation.key.includes(one.column));
  return (tuple) => {
    const row = places.map((place): Cell => (place < 0 ? null : (tuple[place] as Cell)));
    const taken = conditions.every(({ condition }) => {
      try {
        return condition.test(row);
      } catch (error) {
        if (error instanceof BadValue) return false;
        throw error;
      }
    });
    if (!taken) return true;
    if (!uncertain) return false;
    return payload.every((program) => {
      try {
        return program.evaluate(row) === program.absent;
      } catch (error) {
        if (error instanceof BadValue) return false;
        throw error;
      }
    });
  };
}
