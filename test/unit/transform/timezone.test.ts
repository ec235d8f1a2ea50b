import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BadValue } from '../../../src/transform/bad-value.ts';
import { parseCivil, showTimestamp } from '../../../src/transform/civil.ts';
import { toLocal, toMoment, type ZoneRules } from '../../../src/transform/operations/timezone.ts';
import { zoneNamed, type Zone } from '../../../src/transform/zone.ts';

const zone = (name: string): Zone => {
  const found = zoneNamed(name);
  if (found === null) throw new Error(`no zone ${name}`);
  return found;
};
const rules = (name: string, more: Partial<ZoneRules> = {}): ZoneRules => ({
  zone: zone(name),
  ambiguous: 'reject',
  nonexistent: 'reject',
  ...more,
});

const moment = (text: string, one: ZoneRules): string => {
  try {
    return toMoment(text, one);
  } catch (error) {
    if (error instanceof BadValue) return `! ${error.reason}`;
    throw error;
  }
};

describe('around the clock change of Europe/Berlin', () => {
  const twice = '! is a local time that came twice in Europe/Berlin';
  const never = '! is a local time that Europe/Berlin left out';
  test.each([
    [
      '2024-10-27 01:59:59.999999',
      '2024-10-26 23:59:59.999999+00',
      '2024-10-26 23:59:59.999999+00',
      '2024-10-26 23:59:59.999999+00',
    ],
    ['2024-10-27 02:00:00', twice, '2024-10-27 00:00:00+00', '2024-10-27 01:00:00+00'],
    ['2024-10-27 02:30:00.5', twice, '2024-10-27 00:30:00.5+00', '2024-10-27 01:30:00.5+00'],
    ['2024-10-27 02:59:59.999999', twice, '2024-10-27 00:59:59.999999+00', '2024-10-27 01:59:59.999999+00'],
    ['2024-10-27 03:00:00', '2024-10-27 02:00:00+00', '2024-10-27 02:00:00+00', '2024-10-27 02:00:00+00'],
    ['2024-03-31 01:59:59', '2024-03-31 00:59:59+00', '2024-03-31 00:59:59+00', '2024-03-31 00:59:59+00'],
    ['2024-03-31 02:00:00', never, '2024-03-31 01:00:00+00', '2024-03-31 01:00:00+00'],
    ['2024-03-31 02:30:00', never, '2024-03-31 01:30:00+00', '2024-03-31 01:30:00+00'],
    ['2024-03-31 03:00:00', '2024-03-31 01:00:00+00', '2024-03-31 01:00:00+00', '2024-03-31 01:00:00+00'],
  ])('%s', (local, strict, earlier, later) => {
    expect(moment(local, rules('Europe/Berlin'))).toBe(strict);
    expect(moment(local, rules('Europe/Berlin', { ambiguous: 'earlier', nonexistent: 'shift' }))).toBe(
      earlier,
    );
    expect(moment(local, rules('Europe/Berlin', { ambiguous: 'later', nonexistent: 'shift' }))).toBe(later);
  });
});

test('special values and far years', () => {
  expect(moment('infinity', rules('Europe/Berlin'))).toBe('infinity');
  expect(moment('-infinity', rules('Europe/Berlin'))).toBe('-infinity');
  expect(moment('0044-03-15 12:00:00 BC', rules('UTC'))).toBe('0044-03-15 12:00:00+00 BC');
  // Local mean time of the zone's first entry, as PostgreSQL has it: 53 minutes 28 seconds.
  expect(moment('0044-03-15 12:00:00 BC', rules('Europe/Berlin'))).toBe('0044-03-15 11:06:32+00 BC');
  expect(moment('1893-03-31 12:00:00', rules('Europe/Berlin'))).toBe('1893-03-31 11:06:32+00');
  expect(moment('12345-06-01 00:00:00', rules('UTC'))).toBe('12345-06-01 00:00:00+00');
  expect(moment('2050-07-01 12:00:00', rules('Europe/Berlin'))).toBe('2050-07-01 10:00:00+00');
  expect(moment('2024-02-30 00:00:00', rules('UTC'))).toBe('! is not a timestamp');
  expect(moment('2011-12-30 12:00:00', rules('Pacific/Apia'))).toBe(
    '! is a local time that Pacific/Apia left out',
  );
  expect(zoneNamed('Mars/Olympus')).toBeNull();
});

test('a local time that was accepted comes back', () => {
  const names = fc.constantFrom(
    'Europe/Berlin',
    'America/New_York',
    'Asia/Kolkata',
    'Australia/Lord_Howe',
    'America/St_Johns',
    'UTC',
  );
  const seconds = fc.integer({ min: -5_000_000_000, max: 5_000_000_000 });
  fc.assert(
    fc.property(
      names,
      seconds,
      fc.constantFrom('', '.5', '.000001'),
      fc.constantFrom('earlier', 'later'),
      (name, at, fraction, ambiguous) => {
        const local = showTimestamp(at, fraction);
        const text = moment(local, rules(name, { ambiguous: ambiguous as 'earlier' }));
        if (!text.startsWith('!')) expect(toLocal(text, zone(name))).toBe(local);
      },
    ),
    { numRuns: 300 },
  );
});

test('the calendar agrees with the runtime for every year it has', () => {
  fc.assert(
    fc.property(fc.integer({ min: -62_000_000_000, max: 250_000_000_000 }), (at) => {
      const text = new Date(at * 1000)
        .toISOString()
        .replace(/^\+0*(?=\d{5})/, '')
        .replace('T', ' ')
        .replace('.000Z', '');
      if (at < -62_135_596_800) return;
      expect(showTimestamp(at, '')).toBe(text);
      expect(parseCivil(text)?.seconds).toBe(at);
    }),
  );
});
