import { BadValue } from '../bad-value.ts';
import {
  multiply,
  parseDecimal,
  reciprocal,
  showDecimal,
  stripZeros,
  timesPlain,
  type Decimal,
} from '../decimal.ts';
import { derived, type Operation } from './operation.ts';

/** `scale`: times an exact decimal factor. */
export const scale: Operation = {
  options: ['factor'],
  compile(context) {
    const { input, options } = context;
    const factor = options.factor === undefined ? null : parseDecimal(String(options.factor));
    if (factor === null || factor.units === 0n) {
      context.problem(
        'scale needs factor: a decimal number other than 0',
        options.factor === undefined ? 'op' : 'factor',
      );
      return null;
    }
    if (input.kind !== 'integer' && input.kind !== 'decimal' && input.kind !== 'float') {
      context.problem(`scale takes a number, not ${input.type}`, 'op');
      return null;
    }
    const back = reciprocal(factor);
    return {
      text: `scale ${showDecimal(factor)}`,
      apply: times(factor),
      output: derived('decimal', input.nullable),
      inverse:
        back === null
          ? { reason: `1 / ${showDecimal(factor)} is no finite decimal` }
          : input.kind === 'float'
            ? { reason: 'a float does not keep every decimal' }
            : { apply: times(back) },
    };
  },
};

function times(factor: Decimal): (text: string) => string {
  const plain = { units: Number(factor.units), scale: factor.scale };
  const small = Number.isSafeInteger(plain.units);
  return (text) => {
    const product = small ? timesPlain(text, plain) : null;
    if (product !== null) return product;
    const number = parseDecimal(text);
    if (number === null) throw new BadValue('is not a finite number');
    return showDecimal(stripZeros(multiply(number, factor)));
  };
}
