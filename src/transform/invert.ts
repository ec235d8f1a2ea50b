import { showTable, type Cell, type Relation } from '../core/table.ts';
import { isMadeOf, type ColumnProgram } from './column.ts';
import { concat } from './operations/head.ts';
import type { ReverseSpec } from './spec.ts';
import type { CompiledPlan } from './table-plan.ts';
import type { TargetProgram } from './target-program.ts';

/** One green column that the way back of a blue column reads. */
export interface ReverseInput {
  readonly target: TargetProgram;
  /** Index in the green relation. */
  readonly column: number;
}

/** How a blue column comes back from green. */
export interface ReverseColumn {
  /** Index in the blue relation. */
  readonly column: number;
  readonly name: string;
  readonly inputs: readonly ReverseInput[];
  /** For people. */
  readonly operation: string;
  /** True: blue's value comes back; false: it does not, or the operator's override decides. */
  readonly exact: boolean;
  /** Why it is not exact; empty when it is. */
  readonly reason: string;
  /** From the cells of `inputs`, in order; null when there is no derived way. */
  readonly apply: ((cells: readonly Cell[]) => Cell) | null;
}

/**
 * For every blue column the way back, derived from the inverses of the operations: the operator's override first, then a column that can be
 * inverted, then both halves of a split, else the reason there is none.
 */
export function describeReverse(plan: CompiledPlan, reverse?: ReverseSpec): ReverseColumn[] {
  return plan.from.columns.map((_, index) => reverseColumn(plan, index, reverse));
}

function reverseColumn(plan: CompiledPlan, index: number, reverse: ReverseSpec | undefined): ReverseColumn {
  const { name } = plan.from.columns[index] as Relation['columns'][number];
  const override = reverse?.columns?.[name];
  const column = { column: index, name };
  if (override !== undefined) {
    const operation = typeof override.op === 'string' ? override.op : (override.module ?? 'override');
    return { ...column, inputs: [], operation, exact: false, reason: 'an override decides', apply: null };
  }
  const readers = plan.targets.flatMap((target) =>
    target.programs.filter((program) => isMadeOf(program, index)).map((program) => ({ target, program })),
  );
  // A table that holds every row first: a part of a merge or a conditional split may not have it.
  readers.sort((a, b) => Number(isPartial(a.target)) - Number(isPartial(b.target)));
  for (const { target, program } of readers) {
    const { inverse } = program;
    if (!('apply' in inverse)) continue;
    const missing = isPartial(target) ? missingReason(target) : '';
    return {
      ...column,
      inputs: [{ target, column: program.column }],
      operation: program.copy === null ? `inverse of ${program.operation}` : 'copy',
      exact: missing === '',
      reason: missing,
      apply: ([cell]) => (typeof cell === 'string' ? inverse.apply(cell) : (cell as Cell)),
    };
  }
  const halves = splitHalves(readers);
  if (halves !== null) return { ...column, ...halves };
  const reasons = readers.map(({ target, program }) =>
    target.role === 'explode'
      ? `${showTable(target.relation.table)} holds one row per element`
      : 'reason' in program.inverse
        ? `${program.name}: ${program.inverse.reason}`
        : '',
  );
  const exploded = plan.targets.find((target) => target.explode?.array === index);
  if (exploded !== undefined) reasons.push(`${showTable(exploded.relation.table)} holds one row per element`);
  const reason = [...new Set(reasons)].filter((text) => text !== '').join('; ') || 'it is dropped';
  return { ...column, inputs: [], operation: 'none', exact: false, reason, apply: null };
}

const isPartial = (target: TargetProgram): boolean => target.role === 'explode' || target.emitWhen !== null;

const missingReason = (target: TargetProgram): string =>
  target.role === 'explode'
    ? `${showTable(target.relation.table)} holds one row per element`
    : `${showTable(target.relation.table)} does not hold every row`;

/** `split` into first and rest by one separator, both kept: together they are the text. */
function splitHalves(
  readers: readonly { readonly target: TargetProgram; readonly program: ColumnProgram }[],
): Omit<ReverseColumn, 'column' | 'name'> | null {
  for (const first of readers) {
    const { splitPart } = first.program;
    if (splitPart?.take !== 'first' || isPartial(first.target)) continue;
    const rest = readers.find(
      ({ target, program }) =>
        target === first.target &&
        program.splitPart?.take === 'rest' &&
        program.splitPart.by === splitPart.by,
    );
    if (rest === undefined) continue;
    const join = concat.compile({
      inputs: [],
      options: { with: splitPart.by, skip_null: true },
      problem: () => undefined,
    });
    return {
      inputs: [first, rest].map(({ target, program }) => ({ target, column: program.column })),
      operation: `concat with ${JSON.stringify(splitPart.by)}`,
      exact: true,
      reason: '',
      apply: (cells) => join?.apply(cells.map((cell) => (typeof cell === 'string' ? cell : null))) ?? null,
    };
  }
  return null;
}
