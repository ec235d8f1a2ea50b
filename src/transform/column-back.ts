import type { Column } from '../core/table.ts';
import { convert, IDENTITY } from './operations/convert.ts';
import { derived, type Inverse, type Step } from './operations/operation.ts';

/** One step of a pipeline. */
export type Apply = (text: string) => string | null;

/** Steps in order; null ends them. */
export function chain(steps: readonly Apply[]): Apply {
  const [first, second] = steps;
  if (first === undefined) return IDENTITY;
  if (second === undefined) return first;
  return (text) => {
    let value: string | null = text;
    for (const step of steps) {
      value = step(value);
      if (value === null) return null;
    }
    return value;
  };
}

/** What a column takes out of the element of an exploded array. */
export interface ElementPart {
  /** Keys and indexes; empty: the element itself. */
  readonly path: readonly (string | number)[];
  /** From green's text to the text at that place; null when there is no way. */
  readonly back: ((text: string) => string | null) | null;
}

/** The way back through a pipeline: exact where every step's is. */
export function backOf(program: {
  readonly steps: readonly Step[];
  readonly defaulted: boolean;
  /** `on_error` writes something else instead. */
  readonly replaced: boolean;
  /** What the pipeline reads. */
  readonly blue: Column;
}): Inverse {
  const { steps, blue } = program;
  const back: Apply[] = [];
  const reasons: string[] = [];
  for (const { inverse } of steps) {
    if ('reason' in inverse) reasons.push(inverse.reason);
    const apply = 'apply' in inverse ? inverse.apply : inverse.section;
    if (apply === undefined) return { reason: reasons[0] as string };
    back.unshift(apply);
  }
  if (program.defaulted) reasons.push('null becomes the default');
  if (program.replaced) reasons.push('values that do not fit are replaced');
  const conversion = steps.length === 0 ? null : convert(derived(blue.kind, true), blue, null);
  if (conversion !== null && typeof conversion !== 'string') back.push(conversion.apply);
  const apply = chain(back.filter((one) => one !== IDENTITY));
  const [reason] = reasons;
  return reason === undefined ? { apply } : { reason, section: apply };
}

/** What a pipeline over the element takes out of it; null when that is not one place. */
export function elementPart(steps: readonly Step[]): ElementPart | null {
  const [first, ...rest] = steps;
  if (first?.path === undefined) return null;
  const back: Apply[] = [];
  for (const { inverse } of rest) {
    const apply = 'apply' in inverse ? inverse.apply : inverse.section;
    if (apply === undefined) return { path: first.path, back: null };
    back.unshift(apply);
  }
  return { path: first.path, back: chain(back.filter((one) => one !== IDENTITY)) };
}
