import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../src/core/errors.ts';
import { asPosition } from '../../src/core/position.ts';
import { formatLsn, parseLsn, positionOf, positions } from '../../src/engines/postgres/position.ts';
import { checkTimeline } from '../../src/engines/postgres/source-objects.ts';

const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

describe('positions of PostgreSQL', () => {
  test('text and number are the same thing, and covers is their order', () => {
    fc.assert(
      fc.property(lsn, lsn, (left, right) => {
        expect(parseLsn(formatLsn(left))).toBe(left);
        expect(positions.covers(formatLsn(left), formatLsn(right))).toBe(left >= right);
      }),
    );
  });

  test('text order is not position order: 0/9 is before 0/10 and 1/0', () => {
    expect(positions.covers(asPosition('0/9'), asPosition('0/10'))).toBe(false);
    expect(positions.covers(asPosition('1/0'), asPosition('0/FFFFFFFF'))).toBe(true);
  });

  test('zero-padded and lower-case spellings become the canonical one', () => {
    expect(positionOf('0/016b3748')).toBe('0/16B3748');
    expect(positions.distance(asPosition('0/FFFFFFFF'), asPosition('1/00000001'))).toBe(2);
  });

  test.each(['', '0', '0/', 'x/1', '0/123456789', '-1/0', '0/1 '])('refuses %j', (text) => {
    expect(() => parseLsn(text)).toThrow(VerdigrisError);
  });
});

describe('timelines (F15, F17)', () => {
  const history = '1\t0/3000000\tno recovery target specified\n2\t0/5000000\tbefore transaction\n';
  const check = (accepted: number, now: number, checkpoint: string) => () =>
    checkTimeline(history, { accepted, now, checkpoint: asPosition(checkpoint) });

  test('a checkpoint that the new timeline contains goes on', () => {
    expect(check(3, 3, '0/9000000')).not.toThrow();
    expect(check(1, 3, '0/3000000')).not.toThrow();
    expect(check(2, 3, '0/4000000')).not.toThrow();
  });

  test('a checkpoint behind the switch point, or of a foreign timeline, is refused', () => {
    expect(check(1, 3, '0/3000001')).toThrow(/before our checkpoint/);
    expect(check(7, 3, '0/1000000')).toThrow(/does not come from/);
  });
});
