import type { Column } from '../../core/table.ts';
import { BadValue } from '../bad-value.ts';
import { parseDecimal } from '../decimal.ts';
import type { ColumnObject } from '../spec.ts';
import { derived, type Shape } from './operation.ts';

/** An operation of several inputs; it begins a pipeline. */
export interface Head {
  readonly text: string;
  readonly apply: (cells: readonly (string | null)[]) => string | null;
  readonly output: Shape;
  /** Why there is no way back. */
  readonly reason: string;
}

/** One input by name. `key` is its name in the result of json_build. */
export interface HeadInput {
  readonly key: string;
  readonly column: Column;
}

interface HeadContext {
  readonly inputs: readonly HeadInput[];
  readonly options: ColumnObject;
  readonly problem: (message: string, option?: string) => void;
}

export interface HeadOperation {
  readonly options: readonly (keyof ColumnObject)[];
  compile(context: HeadContext): Head | null;
}

/** `concat`: the inputs one after the other. */
export const concat: HeadOperation = {
  options: ['of', 'with', 'skip_null'],
  compile({ inputs, options, problem }) {
    const { with: between = '', skip_null: skip = false } = options;
    const bytes = inputs.find(({ column }) => column.kind === 'bytes');
    if (bytes !== undefined) {
      problem(`concat takes text, and ${bytes.column.name} is bytes`, 'of');
      return null;
    }
    const apply = (cells: readonly (string | null)[]): string | null => {
      const parts = cells.filter((cell) => cell !== null);
      if (parts.length === 0 || (!skip && parts.length < cells.length)) return null;
      return parts.join(between);
    };
    const nullable = skip
      ? inputs.every(({ column }) => column.nullable)
      : inputs.some(({ column }) => column.nullable);
    return {
      text: 'concat',
      apply,
      output: derived('text', nullable),
      reason: 'the parts cannot be told apart',
    };
  },
};

/** `coalesce`: the first input that is not null. */
export const coalesce: HeadOperation = {
  options: ['of'],
  compile({ inputs, problem }) {
    const kinds = new Set(inputs.map(({ column }) => column.kind));
    if (kinds.size !== 1) {
      problem('coalesce needs columns of one kind', 'of');
      return null;
    }
    const { kind } = (inputs[0] as HeadInput).column;
    return {
      text: 'coalesce',
      apply: (cells) => cells.find((cell) => cell !== null) ?? null,
      output: derived(
        kind,
        inputs.every(({ column }) => column.nullable),
      ),
      reason: 'it is not known which column it came from',
    };
  },
};

/** `json_build`: an object of the inputs. Numbers keep every digit. */
export const jsonBuild: HeadOperation = {
  options: ['of'],
  compile({ inputs }) {
    const members = inputs.map(({ key, column }) => ({
      prefix: `${JSON.stringify(key)}: `,
      show: shower(column),
    }));
    return {
      text: 'json_build',
      apply: (cells) => {
        const parts = members.map(({ prefix, show }, index) => {
          const cell = cells[index] as string | null;
          return prefix + (cell === null ? 'null' : show(cell));
        });
        return `{${parts.join(', ')}}`;
      },
      output: derived('json', false),
      reason: 'the columns are inside JSON',
    };
  },
};

function shower({ kind }: Column): (text: string) => string {
  switch (kind) {
    case 'integer':
    case 'decimal':
    case 'float':
      return (text) => {
        if (parseDecimal(text) === null) throw new BadValue('is a number that JSON does not have');
        return text;
      };
    case 'boolean':
      return (text) => (text === 't' ? 'true' : 'false');
    case 'json':
      return (text) => text;
    default:
      return (text) => JSON.stringify(text);
  }
}
