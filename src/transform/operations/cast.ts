import type { Column } from '../../core/table.ts';
import { readType } from '../type-word.ts';
import { convert, type Conversion } from './convert.ts';
import { type Operation, type StepContext, type Step } from './operation.ts';
import { zoneRules } from './timezone.ts';

/**
 * `cast`: to another type. Checked here, so that a value that does not fit meets on_error and not the server. Never rounds,
 * cuts or wraps; the one conversion that drops something is from a timestamp to its date.
 */
export const cast: Operation = {
  options: ['cast', 'assume', 'on_ambiguous', 'nonexistent'],
  compile(context) {
    const word = context.options.cast;
    if (word === undefined) {
      context.problem('needs cast: the type');
      return null;
    }
    const column = resultOf(word, context.target);
    if (column === null) {
      context.problem(`casts to ${word}, but the column is ${context.target.type}`, 'cast');
      return null;
    }
    return step(context, column, `cast ${word}`, 'cast');
  },
};

/** What a pipeline ends in where it was not said: the conversion to green's own type. */
export function toTarget(context: StepContext): Step | null {
  return step(context, context.target, '', undefined);
}

function step(context: StepContext, column: Column, text: string, option: string | undefined): Step | null {
  const { input, options } = context;
  const needsRules =
    input.kind === 'timestamptz'
      ? column.kind === 'timestamp' || column.kind === 'date'
      : column.kind === 'timestamptz' && (input.kind !== 'text' || options.assume !== undefined);
  const rules = needsRules ? zoneRules(context, 'assume') : null;
  if (needsRules && rules === null) return null;
  const found: Conversion | string = convert(input, column, rules);
  if (typeof found === 'string') {
    context.problem(found, option);
    return null;
  }
  const { labels } = column;
  return {
    text,
    apply: found.apply,
    inverse: found.inverse,
    output: {
      kind: column.kind,
      type: column.type,
      nullable: input.nullable,
      derived: true,
      ...(labels === undefined ? {} : { labels }),
    },
  };
}

/** The column that a type's word describes; null when green's column is of another kind. */
function resultOf(word: string, target: Column): Column | null {
  const read = readType(word);
  if (read.kind === target.kind && target.labels === undefined) return { ...target, type: word };
  const wanted = word.toLowerCase();
  const type = target.type.toLowerCase();
  const sameName = wanted === type || wanted === type.slice(type.lastIndexOf('.') + 1);
  return sameName || (read.kind === target.kind && target.labels !== undefined) ? target : null;
}
