import { derived, scalarText, type Operation, type StepContext } from './operation.ts';
import type { Column } from '../../core/table.ts';

function takesText(context: StepContext): boolean {
  const { kind, type } = context.input;
  if (kind === 'text') return true;
  context.problem(`takes text, not ${type}; cast it first`, 'op');
  return false;
}

const simple = (text: string, apply: (text: string) => string, reason: string): Operation => ({
  options: [],
  compile: (context) =>
    takesText(context)
      ? {
          text,
          apply,
          output: derived('text', context.input.nullable),
          inverse: { reason, section: (value) => value },
        }
      : null,
});

/** `trim`: without space, tab and line ends on both sides. Other white space of Unicode stays, as with the servers' own trim. */
export const trim = simple(
  'trim',
  (text) => text.replace(/^[ \t\r\n\f\v]+|[ \t\r\n\f\v]+$/g, ''),
  'the space around it is dropped',
);

/** `lower`, `upper`: Unicode's mapping without a language. A server's own may differ for some locales (Turkish i, ß). */
export const lower = simple('lower', (text) => text.toLowerCase(), 'upper and lower case are folded');
export const upper = simple('upper', (text) => text.toUpperCase(), 'upper and lower case are folded');

/** `split`: one part of a text. */
export const split: Operation = {
  options: ['by', 'take', 'empty'],
  compile(context) {
    const { options } = context;
    if (!takesText(context)) return null;
    const { by, take } = options;
    if (by === undefined || take === undefined) {
      context.problem('split needs by (the separator) and take (first, rest or a number)', 'op');
      return null;
    }
    const part = taker(by, take);
    const empty = options.empty === undefined ? undefined : scalarText(options.empty, 'text');
    return {
      text: `split ${JSON.stringify(by)} ${take}`,
      apply:
        empty === undefined
          ? part
          : (text) => {
              const found = part(text);
              return found === null || found === '' ? empty : found;
            },
      output: derived(
        'text',
        context.input.nullable || empty === null || (empty === undefined && take !== 'first'),
      ),
      inverse: { reason: 'the other parts are elsewhere' },
    };
  },
};

function taker(by: string, take: 'first' | 'rest' | number): (text: string) => string | null {
  if (take === 'first') {
    return (text) => {
      const at = text.indexOf(by);
      return at < 0 ? text : text.slice(0, at);
    };
  }
  if (take === 'rest') {
    return (text) => {
      const at = text.indexOf(by);
      return at < 0 ? null : text.slice(at + by.length);
    };
  }
  return (text) => text.split(by, take)[take - 1] ?? null;
}

/** `mask`: covers all but some characters. Counts code points. */
export const mask: Operation = {
  options: ['keep_first', 'keep_last', 'with'],
  compile(context) {
    const { keep_first: first = 0, keep_last: last = 0, with: cover = '*' } = context.options;
    const kind: Column['kind'] = context.input.kind;
    if (kind === 'bytes') {
      context.problem('takes text, not bytes', 'op');
      return null;
    }
    return {
      text: 'mask',
      // A value no longer than what stays readable is covered whole: else short ones would be shown.
      apply: (text) => {
        const characters = Array.from(text);
        const { length } = characters;
        if (length <= first + last) return cover.repeat(length);
        return (
          characters.slice(0, first).join('') +
          cover.repeat(length - first - last) +
          characters.slice(length - last).join('')
        );
      },
      output: derived('text', context.input.nullable),
      inverse: { reason: 'the value is covered' },
    };
  },
};
