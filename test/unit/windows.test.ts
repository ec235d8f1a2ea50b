import { describe, expect, test } from 'vitest';
import {
  nextOpening,
  openAt,
  showOpening,
  showSpan,
  windowProblem,
  windowVerdict,
  type CutoverWindow,
} from '../../src/orchestrator/windows.ts';

const HOUR = 3_600_000;
const at = (text: string): number => Date.parse(text);
const iso = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString();

const saturday: CutoverWindow = {
  name: 'saturday',
  cron: '0 2 * * 6',
  durationMs: 2 * HOUR,
  timezone: 'Europe/Berlin',
};
const nightly: CutoverWindow = {
  name: 'nightly',
  cron: '30 2 * * *',
  durationMs: HOUR,
  timezone: 'Europe/Berlin',
};

describe('windows', () => {
  test('open from its first millisecond to before its end, on the clock of its zone', () => {
    expect(openAt([saturday], at('2026-11-28T00:59:59.999Z'))).toBe(null);
    expect(iso(openAt([saturday], at('2026-11-28T01:00:00.000Z'))?.closesAt)).toBe(
      '2026-11-28T03:00:00.000Z',
    );
    expect(openAt([saturday], at('2026-11-28T02:59:59.999Z'))?.name).toBe('saturday');
    expect(openAt([saturday], at('2026-11-28T03:00:00.000Z'))).toBe(null);
    // In summer the same clock is an hour earlier.
    expect(iso(nextOpening([saturday], at('2026-07-01T00:00:00Z'))?.opensAt)).toBe(
      '2026-07-04T00:00:00.000Z',
    );
  });

  test('the clocks go forward: a time that does not exist opens when the clock jumps, and lasts as long as ever', () => {
    const opening = nextOpening([nightly], at('2026-03-28T12:00:00Z'));
    expect(iso(opening?.opensAt)).toBe('2026-03-29T01:00:00.000Z');
    expect(iso(opening?.closesAt)).toBe('2026-03-29T02:00:00.000Z');
    expect(openAt([nightly], at('2026-03-29T01:30:00Z'))?.name).toBe('nightly');
  });

  test('the clocks go back: a time that comes twice opens once, at the first', () => {
    expect(iso(nextOpening([nightly], at('2026-10-24T12:00:00Z'))?.opensAt)).toBe('2026-10-25T00:30:00.000Z');
    expect(openAt([nightly], at('2026-10-25T01:30:00Z'))).toBe(null);
    expect(iso(nextOpening([nightly], at('2026-10-25T01:00:00Z'))?.opensAt)).toBe('2026-10-26T01:30:00.000Z');
    // Two hours that span the change are two hours, although the clock shows one.
    const long: CutoverWindow = { ...nightly, cron: '0 2 25 10 *', durationMs: 2 * HOUR };
    expect(openAt([long], at('2026-10-25T01:59:59Z'))?.name).toBe('nightly');
    expect(openAt([long], at('2026-10-25T02:00:00Z'))).toBe(null);
  });

  test('of several the one that is open longest counts, and the next is the soonest; a name narrows', () => {
    const long: CutoverWindow = {
      name: 'weekend',
      cron: '0 0 * * 6',
      durationMs: 48 * HOUR,
      timezone: 'UTC',
    };
    expect(openAt([saturday, long], at('2026-11-28T01:30:00Z'))?.name).toBe('weekend');
    expect(openAt([saturday, long], at('2026-11-28T01:30:00Z'), 'saturday')?.name).toBe('saturday');
    expect(nextOpening([saturday, nightly], at('2026-11-25T12:00:00Z'))?.name).toBe('nightly');
    expect(nextOpening([saturday, nightly], at('2026-11-25T12:00:00Z'), 'saturday')?.name).toBe('saturday');
  });

  test('the gate says what is open and for how long, or what opens next', () => {
    expect(windowVerdict([], at('2026-11-25T12:00:00Z'))).toBe(null);
    expect(windowVerdict([saturday], at('2026-11-28T01:30:00Z'))).toEqual({
      ok: true,
      observed: 'saturday, for 1h 30m',
      limit: 'in a window',
      reason: '',
    });
    expect(windowVerdict([saturday], at('2026-11-25T06:00:00Z'), 'saturday')).toEqual({
      ok: false,
      observed: 'closed',
      limit: 'in window saturday',
      reason: 'next: saturday Sat 28 Nov 02:00-04:00 Europe/Berlin, in 2d 19h',
    });
    // Of a date that has passed for good.
    expect(windowVerdict([{ ...saturday, cron: '0 2 31 2 *' }], at('2026-11-25T06:00:00Z'))).toMatchObject({
      ok: false,
      reason: 'no window opens again',
    });
  });

  test('an opening over midnight names both days', () => {
    const late: CutoverWindow = { name: 'late', cron: '0 23 * * *', durationMs: 3 * HOUR, timezone: 'UTC' };
    const opening = nextOpening([late], at('2026-11-25T12:00:00Z'));
    expect(opening && showOpening(opening)).toBe('late Wed 25 Nov 23:00-Thu 26 Nov 02:00 UTC');
  });

  test('what is no cron line and what is no zone is said so', () => {
    expect(windowProblem(saturday)).toBe(null);
    for (const cron of ['', '0 2 31 2 *', '99 2 * * *', '0 2 * *', '0 0 2 * * 6', 'whenever'])
      expect(windowProblem({ cron, timezone: 'UTC' }), cron).toBe('cron');
    expect(windowProblem({ cron: '0 2 * * 6', timezone: 'Europe/Nowhere' })).toBe('timezone');
  });

  test('spans are short', () => {
    expect([500, 61_000, 3_660_000, 90_000_000, 86_400_000].map(showSpan)).toEqual([
      '1s',
      '1m',
      '1h 1m',
      '1d 1h',
      '1d',
    ]);
  });
});
