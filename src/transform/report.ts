import { showTable, type Relation } from '../core/table.ts';
import { describeReverse, type ReverseColumn } from './invert.ts';
import type { ReverseSpec } from './spec.ts';
import type { CompiledPlan } from './table-plan.ts';
import type { TargetProgram } from './target-program.ts';

/** One column of green in `plan`. */
export interface ColumnReport {
  readonly column: string;
  readonly from: readonly string[];
  readonly operation: string;
  /** exact: the way back restores the blue columns it comes from; lossy: it does not, reason says why. */
  readonly reverse: 'exact' | 'lossy';
  readonly reason: string;
}

export interface TargetReport {
  readonly table: string;
  readonly kind: 'identity' | 'rename' | 'reshape' | 'split' | 'merge' | 'explode';
  readonly columns: readonly ColumnReport[];
}

export interface TableReport {
  readonly from: string;
  readonly when: string | null;
  readonly to: readonly TargetReport[];
  /** Blue columns that are on no green table. */
  readonly dropped: readonly string[];
  /** Blue columns that the way back does not restore. */
  readonly lossy: readonly { readonly column: string; readonly reason: string }[];
}

export function reportOf(plan: CompiledPlan, reverse: ReverseSpec | undefined): TableReport {
  const back = describeReverse(plan, reverse);
  const kept = new Set(plan.targets.flatMap((target) => target.inputs));
  return {
    from: showTable(plan.from.table),
    when: plan.when?.text ?? null,
    to: plan.targets.map((target) => ({
      table: showTable(target.relation.table),
      kind: kindOf(plan, target),
      columns: columnsOf(plan, target, back),
    })),
    dropped: plan.from.columns.filter((_, index) => !kept.has(index)).map((column) => column.name),
    lossy: back.filter((column) => !column.exact).map(({ name, reason }) => ({ column: name, reason })),
  };
}

function kindOf(plan: CompiledPlan, target: TargetProgram): TargetReport['kind'] {
  if (target.role === 'explode') return 'explode';
  if (target.role === 'owner' || target.role === 'part') return 'merge';
  if (plan.targets.length > 1) return 'split';
  if (plan.passthrough === null) return 'reshape';
  const { from } = plan;
  const { relation } = target;
  const sameNames = plan.passthrough.columns.every(
    (to, i) => relation.columns[to]?.name === from.columns[plan.passthrough?.from[i] as number]?.name,
  );
  const whole = plan.passthrough.from.length === from.columns.length;
  return sameNames && whole && showTable(relation.table) === showTable(from.table) ? 'identity' : 'rename';
}

function columnsOf(
  plan: CompiledPlan,
  target: TargetProgram,
  back: readonly ReverseColumn[],
): ColumnReport[] {
  const columns: Relation['columns'] = plan.from.columns;
  return target.relation.columns.flatMap((column, index): ColumnReport[] => {
    const program = target.programs.find((one) => one.column === index);
    if (program === undefined) {
      if (target.explode?.ordinal !== index) return [];
      return [
        {
          column: column.name,
          from: [target.explode.name],
          operation: 'ordinal',
          reverse: 'lossy',
          reason: 'the number of an element',
        },
      ];
    }
    const from = program.inputs.map((input) => columns[input]?.name ?? target.explode?.name ?? '');
    const lost = program.inputs.map((input) => back[input]).filter((one) => one !== undefined && !one.exact);
    const constant = program.inputs.length === 0 || program.inputs.some((input) => input >= columns.length);
    const reason =
      constant && 'reason' in program.inverse
        ? program.inverse.reason
        : lost.map((one) => `${one?.name}: ${one?.reason}`).join('; ');
    return [
      {
        column: column.name,
        from,
        operation: program.operation,
        reverse: reason === '' ? 'exact' : 'lossy',
        reason,
      },
    ];
  });
}
