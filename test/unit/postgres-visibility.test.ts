import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSnapshot, sees, widen } from '../../src/engines/postgres/visibility.ts';

const low32 = (full: bigint): string => String(BigInt.asUintN(32, full));

describe('snapshot text', () => {
  it('parses an empty and a filled list of running transactions', () => {
    expect(parseSnapshot('798:798:')).toEqual({ xmin: 798n, xmax: 798n, running: new Set() });
    expect(parseSnapshot('769:772:769,771').running).toEqual(new Set([769n, 771n]));
  });

  it.each(['', '1:2', '1:2:3,', 'a:b:c', '1:2:3;4'])('refuses %j', (text) => {
    expect(() => parseSnapshot(text)).toThrow(expect.objectContaining({ code: 'SOURCE_PROTOCOL' }) as Error);
  });
});

describe('xid-epoch-wrap', () => {
  it('judges by running list and xmax on a young cluster', () => {
    const snapshot = parseSnapshot('769:772:769');
    expect(['768', '769', '770', '771', '772', '773'].map((xid) => sees(snapshot, xid))).toEqual([
      true,
      false,
      true,
      true,
      false,
      false,
    ]);
  });

  it.each([1n, 5n])('does not call everything visible in epoch %s', (epoch) => {
    const base = epoch << 32n;
    const snapshot = parseSnapshot(`${base + 769n}:${base + 772n}:${base + 769n}`);
    expect(sees(snapshot, '768')).toBe(true);
    expect(sees(snapshot, '769')).toBe(false);
    expect(sees(snapshot, '771')).toBe(true);
    expect(sees(snapshot, '772')).toBe(false);
    expect(sees(snapshot, '100000')).toBe(false);
    // From before the wrap: the epoch below.
    expect(sees(snapshot, '4294967290')).toBe(true);
  });

  it('judges across the wrap in both directions', () => {
    const wrap = 1n << 32n;
    const before = parseSnapshot(`${wrap - 10n}:${wrap - 5n}:${wrap - 7n}`);
    expect(sees(before, low32(wrap - 6n))).toBe(true);
    expect(sees(before, low32(wrap - 7n))).toBe(false);
    expect(sees(before, low32(wrap - 5n))).toBe(false);
    expect(sees(before, '3')).toBe(false);
    const after = parseSnapshot(`${wrap - 10n}:${wrap + 20n}:${wrap - 7n},${wrap + 4n}`);
    expect(sees(after, low32(wrap - 8n))).toBe(true);
    expect(sees(after, low32(wrap - 7n))).toBe(false);
    expect(sees(after, '3')).toBe(true);
    expect(sees(after, '4')).toBe(false);
    expect(sees(after, '20')).toBe(false);
  });

  it('never sees an id that cannot have existed yet', () => {
    expect(sees(parseSnapshot('100:200:'), '4294967290')).toBe(false);
  });

  it('finds the id that was meant wherever the snapshot stands', () => {
    fc.assert(
      fc.property(
        fc.bigInt(3n, 1n << 62n),
        fc.bigInt(-(1n << 31n) + 1n, (1n << 31n) - 1n),
        (full, distance) => {
          fc.pre(full + distance > 0n);
          expect(widen(BigInt(low32(full)), full + distance)).toBe(full);
        },
      ),
    );
  });
});
