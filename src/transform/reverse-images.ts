import { showTable } from '../core/table.ts';
import type { BackPlan } from './back-plan.ts';
import type { FullImageNeed } from './full-images.ts';

/**
 * Why a green table must log whole old rows; empty when it does or need not. Without the old row every column counts as changed, and
 * a column of blue that nobody touched would be written again: harmless only where the same text comes back.
 */
export function backImageReasons(plan: BackPlan): FullImageNeed[] {
  const { from } = plan;
  if (from.identity === 'full') return [];
  const identity = from.identity === 'key' ? from.key : [];
  const reasons: string[] = from.identity === 'none' ? ['its log brings nothing of old rows'] : [];
  for (const target of plan.targets) {
    const name = showTable((target.table.elements?.of ?? target.relation).table);
    const names = (inputs: readonly number[]): string[] =>
      inputs.filter((index) => !identity.includes(index)).map((index) => from.columns[index]?.name ?? '');
    if (target.relation.key.length === 0)
      reasons.push(`${name} has no key, so rows are found by their old values`);
    const key = names(target.keyInputs);
    if (key.length > 0) reasons.push(`the key of ${name} reads ${key.join(', ')}`);
    const presence = names(target.presenceInputs);
    if (presence.length > 0) reasons.push(`whether ${name} has a row reads ${presence.join(', ')}`);
    if (target.role === 'element' || target.role === 'replace')
      reasons.push(`${target.role === 'element' ? 'elements' : 'rows'} of ${name} are written as a whole`);
    if (target.asksAgain) reasons.push(`the conditions of ${name} are asked of whole rows`);
    const loose = target.ways.filter(
      ({ way }) => way.inputs.length > 0 && !(way.faithful && way.inputs.length === 1),
    );
    const written = loose.filter(({ to }) => !target.relation.key.includes(to)).map(({ way }) => way.name);
    if (target.role !== 'element' && written.length > 0)
      reasons.push(`${written.join(', ')} of ${name} must not be written unless changed`);
  }
  return reasons.length === 0 ? [] : [{ table: from.table, why: reasons.join('; ') }];
}
