import { showTable, type TableName } from '../core/table.ts';
import type { CompiledPlan } from './table-plan.ts';
import type { TargetProgram } from './target-program.ts';

/** A table whose log must bring whole old rows. */
export interface FullImageNeed {
  readonly table: TableName;
  readonly why: string;
}

/**
 * Why the plan needs old values that the log of the table does not bring; empty when it brings them, or needs none. Without them a condition
 * that turns false could not be noticed, and a computed column could mix new cells with ones that were not sent.
 */
export function fullImageReasons(plan: CompiledPlan): FullImageNeed[] {
  const { from } = plan;
  if (from.identity === 'full') return [];
  const identity = new Set(from.identity === 'key' ? from.key : []);
  const outside = (inputs: readonly number[]): string[] =>
    inputs.filter((index) => !identity.has(index)).map((index) => from.columns[index]?.name ?? '');
  const reasons: string[] = [];
  const need = (inputs: readonly number[], what: string): void => {
    const names = outside(inputs);
    if (names.length > 0) reasons.push(`${what} reads ${names.join(', ')}`);
  };
  if (plan.when !== null) need(plan.when.inputs, 'when');
  for (const target of plan.targets) {
    const name = showTable(target.relation.table);
    if (target.emitWhen !== null) need(target.emitWhen.inputs, `emit_when of ${name}`);
    if (target.relation.key.length === 0)
      reasons.push(`${name} has no key, so rows are found by their old values`);
    else need(target.keyInputs, `the key of ${name}`);
    if (target.programs.some((program) => program.document !== undefined))
      reasons.push(`fields of ${name} are mapped, and its log brings updates as parts of documents`);
    for (const inputs of mixedInputs(plan, target, identity)) {
      const column = inputs.column;
      reasons.push(`${name}.${column} is made of several columns, of which the log may leave some out`);
    }
  }
  return reasons.length === 0 ? [] : [{ table: from.table, why: reasons.join('; ') }];
}

/** Outputs of several inputs of which an update may bring only some. */
function mixedInputs(
  plan: CompiledPlan,
  target: TargetProgram,
  identity: ReadonlySet<number>,
): readonly { readonly column: string }[] {
  const { columns } = plan.from;
  const partial = (inputs: readonly number[]): boolean =>
    inputs.length > 1 &&
    inputs.some((index) => columns[index]?.mayBeUnchanged === true && !identity.has(index));
  if (target.explode !== null) {
    // Children are written again as a whole: the array beside any other column of the parent.
    const payload = target.inputs.filter((index) => !target.keyInputs.includes(index));
    return partial(payload) ? [{ column: target.explode.name }] : [];
  }
  return target.programs
    .filter((program) => partial(program.inputs))
    .map((program) => ({ column: program.name }));
}
