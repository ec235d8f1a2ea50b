import { BadValue } from '../bad-value.ts';
import { jsonAt } from '../json-parts.ts';
import { jsonText, NotJson } from '../json-text.ts';
import { derived, type Operation } from './operation.ts';

/** Path as keys and indexes: `a.b.0` or a list. */
const pathParts = (path: string | readonly (string | number)[]): readonly (string | number)[] =>
  typeof path === 'string' ? path.split('.') : path;

/**
 * What stands at a path of a JSON text: as JSON, or as the text it stands for. Null when there is nothing or a JSON null.
 */
export function extract(
  path: readonly (string | number)[],
  asJson: boolean,
): (text: string) => string | null {
  return (text) => {
    let raw: string | null;
    try {
      raw = jsonAt(text, path);
    } catch (error) {
      if (error instanceof NotJson) throw new BadValue('is not JSON');
      throw error;
    }
    if (raw === null || raw === 'null') return null;
    if (asJson || raw[0] !== '"') return raw;
    const value = jsonText(raw) as string;
    checkText(value);
    return value;
  };
}

/** JSON can spell characters that no text column takes. */
function checkText(text: string): void {
  if (text.includes('\u0000')) throw new BadValue('holds a NUL character');
  if (!text.isWellFormed()) throw new BadValue('holds half of a surrogate pair');
}

/** `json_get`: a value out of a JSON column. Numbers keep every digit. */
export const jsonGet: Operation = {
  options: ['path'],
  compile(context) {
    const { input, options, target } = context;
    if (options.path === undefined) {
      context.problem('json_get needs path', 'op');
      return null;
    }
    if (input.kind !== 'json' && !(input.kind === 'text' && input.derived)) {
      context.problem(`json_get takes JSON, not ${input.type}`, 'op');
      return null;
    }
    const parts = pathParts(options.path);
    const asJson = context.last && target.kind === 'json';
    return {
      text: `json_get ${parts.join('.')}`,
      apply: extract(parts, asJson),
      path: parts,
      output: derived(asJson ? 'json' : 'text', true),
      inverse: { reason: 'the rest of the JSON is dropped' },
    };
  },
};
