import { describe, expect, test } from 'vitest';
import { timesOf } from '../../src/orchestrator/requests.ts';
import type { CutoverWindow } from '../../src/orchestrator/windows.ts';

const NOW = Date.parse('2026-11-25T12:00:00Z');
const saturday: CutoverWindow = {
  name: 'saturday',
  cron: '0 2 * * 6',
  durationMs: 7_200_000,
  timezone: 'Europe/Berlin',
};
const times = (when: Parameters<typeof timesOf>[0], windows: readonly CutoverWindow[] = [], now = NOW) =>
  timesOf(when, windows, now);

describe('when a request may begin', () => {
  test('from a moment on, for an hour unless said otherwise', () => {
    expect(times({ at: '2026-11-26T02:00:00+01:00' })).toEqual({
      notBefore: '2026-11-26T01:00:00.000Z',
      window: null,
      deadline: '2026-11-26T02:00:00.000Z',
    });
    expect(times({ at: '2026-11-26T01:00:00Z', waitMs: 60_000 }).deadline).toBe('2026-11-26T01:01:00.000Z');
  });

  test('while a window is open: the one that is open now, else the next; at its end the wait ends', () => {
    expect(times({ window: 'saturday' }, [saturday])).toEqual({
      notBefore: '2026-11-28T01:00:00.000Z',
      window: 'saturday',
      deadline: '2026-11-28T03:00:00.000Z',
    });
    expect(times({ window: 'saturday' }, [saturday], Date.parse('2026-11-28T02:00:00Z'))).toEqual({
      notBefore: null,
      window: 'saturday',
      deadline: '2026-11-28T03:00:00.000Z',
    });
    expect(times({ window: 'saturday', waitMs: 600_000 }, [saturday]).deadline).toBe(
      '2026-11-28T01:10:00.000Z',
    );
  });

  test('as soon as the gates are open, within a time', () => {
    expect(times({ waitMs: 60_000 })).toEqual({
      notBefore: null,
      window: null,
      deadline: '2026-11-25T12:01:00.000Z',
    });
  });

  test.each([
    [{}, [], 'needs a moment'],
    [{ at: '2026-11-26T02:00:00Z', window: 'saturday' }, [saturday], 'not both'],
    [{ window: 'sunday' }, [saturday], 'no window sunday'],
    [{ window: 'sunday' }, [], 'no window sunday'],
    [{ at: '2026-11-26T02:00:00' }, [], 'no moment with a time zone'],
    [{ at: 'tonight' }, [], 'no moment with a time zone'],
    [{ at: '2026-11-25T11:59:59Z' }, [], 'has passed'],
    [{ at: '2026-11-26T02:00:00Z' }, [saturday], 'No window is open'],
  ])('%j with %j windows is refused: %s', (when, windows, message) => {
    expect(() => times(when, windows as CutoverWindow[])).toThrow(
      expect.objectContaining({
        code: 'USAGE',
        message: expect.stringContaining(message) as unknown,
      }) as Error,
    );
  });
});
