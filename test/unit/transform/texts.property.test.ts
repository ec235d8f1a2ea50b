import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalNumber } from '../../../src/transform/canonical.ts';
import {
  multiply,
  parseDecimal,
  plainInteger,
  reciprocal,
  showDecimal,
  stripZeros,
  timesPlain,
  withScale,
  type Decimal,
} from '../../../src/transform/decimal.ts';
import { explodeJson, jsonAt } from '../../../src/transform/json-parts.ts';
import {
  canonicalJson,
  jsonElements,
  jsonText,
  jsonValue,
  NotJson,
} from '../../../src/transform/json-text.ts';

describe('JSON as text', () => {
  const spaced = (value: unknown): string => JSON.stringify(value, null, ' \t');

  test('agrees with the runtime about what is JSON', () => {
    const broken = fc
      .tuple(fc.json(), fc.nat(), fc.constantFrom('', ',', '"', '}', '0', 'x', '\\', ' '))
      .map(([text, at, part]) => {
        const cut = at % (text.length + 1);
        return text.slice(0, cut) + part + text.slice(cut + 1);
      });
    const accepts = (read: (text: string) => unknown, text: string): boolean => {
      try {
        read(text);
        return true;
      } catch (error) {
        if (error instanceof NotJson || error instanceof SyntaxError) return false;
        throw error;
      }
    };
    fc.assert(
      fc.property(fc.oneof(fc.json(), broken), (text) => {
        expect(accepts(jsonValue, text)).toBe(accepts(JSON.parse, text));
      }),
      { numRuns: 1000 },
    );
  });

  test('elements and members are the text they were written as', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 3 }), { maxLength: 6 }), (value) => {
        const text = spaced(value);
        expect(jsonElements(text)?.map((element) => JSON.parse(element) as unknown)).toEqual(
          JSON.parse(text),
        );
        for (const index of value.keys()) expect(jsonAt(text, [index])).toBe(jsonElements(text)?.[index]);
      }),
    );
    expect(jsonElements('[ 1.0 , 12345678901234567890 ,"\\u0041"]')).toEqual([
      '1.0',
      '12345678901234567890',
      '"\\u0041"',
    ]);
    expect(jsonElements('{}')).toBeNull();
    expect(jsonText('"\\u0041\\n"')).toBe('A\n');
  });

  test('the parts of an element are those of its text, whatever is asked in between', () => {
    const part = fc.oneof(
      fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })),
      fc.array(fc.jsonValue({ maxDepth: 2 })),
      fc.jsonValue({ maxDepth: 2 }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), fc.boolean(), (value, between) => {
        const elements = explodeJson(spaced(value));
        expect(elements?.length).toBe(value.length);
        for (const [index, inside] of value.entries()) {
          const element = elements?.at(index) as string;
          expect(JSON.parse(element)).toEqual(JSON.parse(JSON.stringify(inside)));
          if (typeof inside !== 'object' || inside === null) {
            expect(jsonAt(element, ['0'])).toBeNull();
            continue;
          }
          const members: [string | number, unknown][] = Array.isArray(inside)
            ? inside.map((one, at) => [at, one])
            : Object.entries(inside);
          for (const [key, one] of members) {
            if (between) expect(jsonAt('{"a": [1, {"b": 2}]}', ['a', 1, 'b'])).toBe('2');
            expect(JSON.parse(jsonAt(element, [key]) as string)).toEqual(JSON.parse(JSON.stringify(one)));
          }
          expect(jsonAt(element, Array.isArray(inside) ? [inside.length] : ['no such key'])).toBeNull();
        }
      }),
    );
    const many = Array.from({ length: 20_000 }, (_, a) => ({ a, b: 1 }));
    const elements = explodeJson(JSON.stringify(many));
    for (const { a } of many) expect(jsonAt(elements?.at(a) as string, ['a'])).toBe(String(a));
    expect(explodeJson(' {"a": [1]} ')).toBeNull();
    expect(() => explodeJson('[1, 2')).toThrow(NotJson);
    expect(explodeJson('[]')?.length).toBe(0);
  });

  test('deep nesting ends in an error, not in the end of the stack', () => {
    expect(() => jsonValue('['.repeat(100_000))).toThrow(NotJson);
  });

  test('one text for equal values', () => {
    const one = canonicalJson('{"b": 1.50, "a": [1e2, "\\u0041"], "b": 2.0}', canonicalNumber);
    expect(one).toBe('{"a":[100,"A"],"b":2}');
    expect(canonicalJson(one, canonicalNumber)).toBe(one);
  });
});

describe('decimals', () => {
  test('an integer is plain as it is printed, up to 15 digits', () => {
    const texts = fc.oneof(fc.bigInt().map(String), fc.stringMatching(/^[-+]?[0-9]{0,17}[.e]?$/));
    fc.assert(
      fc.property(texts, (text) => {
        const plain = /^(0|-?[1-9]\d{0,14})$/.test(text);
        expect(plainInteger(text)).toBe(plain ? Number(text) : Number.NaN);
      }),
    );
  });

  test('what is done with numbers is what is done with integers of any length, or not done', () => {
    const digits = (most: number) => fc.bigInt({ min: 0n, max: 10n ** BigInt(most) });
    const texts = fc.oneof(
      fc.tuple(fc.boolean(), digits(14), fc.nat(9)).map(([negative, units, scale]) => {
        return `${negative ? '-' : ''}${showDecimal({ units, scale })}`;
      }),
      fc.constantFrom(
        '',
        '-',
        '.',
        '1.',
        '.5',
        '1.2.3',
        '1e3',
        'NaN',
        '-0',
        '-0.00',
        '00012',
        '+1',
        ' 1',
        '1-2',
      ),
    );
    const factors = fc.record({ units: fc.integer().map(BigInt), scale: fc.nat(4) });
    let done = 0;
    fc.assert(
      fc.property(texts, factors, (text, factor) => {
        const plain = timesPlain(text, { units: Number(factor.units), scale: factor.scale });
        if (plain === null) return;
        done += 1;
        const number = parseDecimal(text) as Decimal;
        expect(plain).toBe(showDecimal(stripZeros(multiply(number, factor))));
      }),
      { numRuns: 2_000 },
    );
    expect(done).toBeGreaterThan(200);
  });

  const decimal: fc.Arbitrary<Decimal> = fc.record({
    units: fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n }),
    scale: fc.nat(30),
  });

  test('text and back', () => {
    fc.assert(
      fc.property(decimal, (number) => {
        expect(parseDecimal(showDecimal(number))).toEqual(number);
      }),
    );
    expect(['', '.', '-', '1e', '0x1', 'NaN', ' 1', '1e999999'].map(parseDecimal)).toEqual(
      Array(8).fill(null),
    );
  });

  test('scaling there and back is the same number', () => {
    const factor = fc
      .tuple(fc.nat(12), fc.nat(12), fc.nat(6), fc.boolean())
      .map(([twos, fives, scale, negative]) => ({
        units: 2n ** BigInt(twos) * 5n ** BigInt(fives) * (negative ? -1n : 1n),
        scale,
      }));
    fc.assert(
      fc.property(decimal, factor, (number, by) => {
        const back = reciprocal(by);
        expect(back).not.toBeNull();
        expect(stripZeros(multiply(multiply(number, by), back as Decimal))).toEqual(stripZeros(number));
      }),
    );
    expect(reciprocal({ units: 3n, scale: 0 })).toBeNull();
    expect(reciprocal({ units: 0n, scale: 2 })).toBeNull();
  });

  test('digits are added and never taken away', () => {
    fc.assert(
      fc.property(decimal, fc.nat(40), (number, scale) => {
        const fitted = withScale(number, scale);
        if (fitted === null) expect(stripZeros(number).scale).toBeGreaterThan(scale);
        else expect(stripZeros(fitted)).toEqual(stripZeros(number));
      }),
    );
  });
});
