import type { Kind } from '../../core/table.ts';
import { BadValue } from '../bad-value.ts';
import type { ColumnObject } from '../spec.ts';
import { derived, scalarText, type Inverse, type Operation } from './operation.ts';

type Unmapped = { readonly policy: 'fail' | 'reject' | null } | { readonly text: string | null };

function unmappedOf(option: ColumnObject['on_unmapped']): Unmapped {
  if (option === undefined) return { policy: null };
  if (option === null || option === 'null') return { text: null };
  if (typeof option === 'string') return { policy: option };
  return { text: scalarText(option.value, 'text') };
}

/** A key of `values` as the cell of a kind has it: YAML writes true, the cell t. */
const keyText = (key: string, kind: Kind): string =>
  kind === 'boolean' ? ({ true: 't', false: 'f' }[key] ?? key) : key;

function lookup(
  table: ReadonlyMap<string, string | null>,
  unmapped: Unmapped,
): (text: string) => string | null {
  return (text) => {
    const found = table.get(text);
    if (found !== undefined) return found;
    if ('text' in unmapped) return unmapped.text;
    throw new BadValue('is not among the mapped values', unmapped.policy);
  };
}

/** Back, where no two values meet and nothing else is let in. */
function inverseOf(table: ReadonlyMap<string, string | null>, unmapped: Unmapped): Inverse {
  const reasons: string[] = [];
  if ('text' in unmapped) reasons.push('values that are not mapped become one');
  const back = new Map<string, string>();
  for (const [key, value] of table) {
    if (value === null) reasons.push('a value becomes null');
    else if (back.has(value)) reasons.push('several values become one');
    else back.set(value, key);
  }
  const apply = lookup(back, { policy: null });
  const [reason] = reasons;
  return reason === undefined ? { apply } : { reason, section: apply };
}

const operation = (name: 'map' | 'unmap'): Operation => ({
  options: ['values', 'on_unmapped'],
  compile(context) {
    const { input, options, target } = context;
    const values = options.values;
    if (values === undefined || Object.keys(values).length === 0) {
      context.problem(`${name} needs values`, 'op');
      return null;
    }
    const table = new Map<string, string | null>();
    for (const [key, value] of Object.entries(values)) {
      if (name === 'map') {
        table.set(keyText(key, input.kind), scalarText(value, context.last ? target.kind : 'text'));
        continue;
      }
      const text = scalarText(value, input.kind);
      if (text === null || table.has(text)) {
        context.problem('unmap needs a different value for each key', 'values');
        return null;
      }
      table.set(text, context.last ? keyText(key, target.kind) : key);
    }
    const unmapped = unmappedOf(options.on_unmapped);
    const labels = target.labels;
    if (labels !== undefined && context.last) {
      const results = [...table.values(), 'text' in unmapped ? unmapped.text : null];
      const unknown = results.find((text) => text !== null && !labels.includes(text));
      if (unknown !== undefined) {
        context.problem(`${target.type} has no label ${unknown}`, 'values');
        return null;
      }
    }
    const nullable =
      input.nullable || [...table.values()].includes(null) || ('text' in unmapped && unmapped.text === null);
    const output = derived('text', nullable);
    return {
      text: name,
      apply: lookup(table, unmapped),
      // Checked above: no second look per row.
      output: labels !== undefined && context.last ? { ...output, labels } : output,
      inverse: inverseOf(table, unmapped),
    };
  },
});

/** `map`: values of blue to values of green. */
export const map = operation('map');
/** `unmap`: the same table read backwards. */
export const unmap = operation('unmap');
