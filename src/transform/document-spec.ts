import type { ColumnObject, Scalar } from './spec.ts';

/** A value passed on as it is, whatever its type. */
export const isMove = (spec: ColumnObject): boolean =>
  Object.keys(spec).every(
    (key) => key === 'from' || key === 'on_error' || (key === 'op' && spec.op === 'copy'),
  );

/** A type and nothing else: a value that has it already stays the bytes that came. */
export const isCast = (spec: ColumnObject): boolean =>
  Object.keys(spec).every((key) => ['from', 'cast', 'on_error', 'default'].includes(key));

/** Names of the fields that a field is made of. */
export function sourcesOf(name: string, { from, of, value, module, op }: ColumnObject): string[] {
  if (value !== undefined) return [];
  const more = of === undefined ? [] : Array.isArray(of) ? of : Object.values(of);
  if (module !== undefined) return [...new Set([...(from === undefined ? [] : [from]), ...more])];
  return more.length > 0 && op !== undefined ? [...new Set(more)] : [from ?? name];
}

/** The word of the type that a field gets: what a cast says, or what the constant is, or text. */
export function typeOf({ cast, op, value }: ColumnObject): string {
  const steps = Array.isArray(op) ? op : [];
  const last = steps.findLast((step) => typeof step !== 'string' && step.cast !== undefined);
  if (cast !== undefined) return cast;
  if (last !== undefined && typeof last !== 'string') return last.cast as string;
  return scalarType(value);
}

function scalarType(value: Scalar | undefined): string {
  if (typeof value === 'boolean') return 'bool';
  if (typeof value !== 'number') return 'string';
  if (!Number.isInteger(value)) return 'double';
  return value === (value | 0) ? 'int' : 'long';
}
