/** A time zone's rules, from the runtime's own tables, cached as exact moments of change. */
export interface Zone {
  readonly name: string;
  /** Seconds east of UTC at a moment (seconds since 1970, UTC). */
  offsetAt(utc: number): number;
  /** The moments that a clock on the wall shows as `local`, earliest first: one, two (clock set back) or none (set forward). */
  moments(local: number): readonly number[];
  /** What a clock that was not set forward would call this moment: for local times that never were. */
  pastGap(local: number): number;
}

const HOUR = 3600;
const DAY = 24 * HOUR;
const YEAR = 366 * DAY;
/** Rules before are the local mean time of the first entry; beyond the last the yearly rules go on in every table alike. */
const FIRST = Date.UTC(1800, 0, 1) / 1000;
const LAST = Date.UTC(9999, 0, 1) / 1000;

interface Span {
  /** Ascending moments at which the offset changes. */
  readonly at: readonly number[];
  /** Offset from at[i - 1] on; one entry more than `at`. */
  readonly offsets: readonly number[];
}

const zones = new Map<string, Zone>();

/** Null when the runtime does not know the zone. */
export function zoneNamed(name: string): Zone | null {
  const known = zones.get(name);
  if (known !== undefined) return known;
  const zone = /^(utc|gmt|z|etc\/utc)$/i.test(name) ? UTC : openZone(name);
  if (zone !== null) zones.set(name, zone);
  return zone;
}

const UTC: Zone = {
  name: 'UTC',
  offsetAt: () => 0,
  moments: (local) => [local],
  pastGap: (local) => local,
};

function openZone(name: string): Zone | null {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: name,
      calendar: 'gregory',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    return null;
  }
  const exact = (utc: number): number => {
    const parts: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(utc * 1000)) parts[type] = Number(value);
    const local = Date.UTC(
      parts['year'] as number,
      (parts['month'] as number) - 1,
      parts['day'] as number,
      parts['hour'] as number,
      parts['minute'] as number,
      parts['second'] as number,
    );
    return local / 1000 - utc;
  };
  const spans = new Map<number, Span>();
  const spanOf = (utc: number): Span => {
    const index = Math.floor(utc / YEAR);
    let span = spans.get(index);
    if (span === undefined) {
      span = readSpan(exact, index * YEAR);
      spans.set(index, span);
    }
    return span;
  };
  const offsetAt = (utc: number): number => {
    const moment = Math.min(Math.max(utc, FIRST), LAST);
    const { at, offsets } = spanOf(moment);
    let index = at.length;
    while (index > 0 && (at[index - 1] as number) > moment) index -= 1;
    return offsets[index] as number;
  };
  const moments = (local: number): number[] => {
    const before = local - offsetAt(local - DAY);
    const after = local - offsetAt(local + DAY);
    const found = before === after ? [before] : [Math.min(before, after), Math.max(before, after)];
    return found.filter((utc) => utc + offsetAt(utc) === local);
  };
  return { name, offsetAt, moments, pastGap: (local) => local - offsetAt(local - DAY) };
}

/** Walks a span day by day, then finds each change to the second. No zone has changed twice within a day. */
function readSpan(exact: (utc: number) => number, start: number): Span {
  const at: number[] = [];
  let offset = exact(start);
  const offsets = [offset];
  for (let day = start; day < start + YEAR; day += DAY) {
    const next = exact(day + DAY);
    if (next === offset) continue;
    let low = day;
    let high = day + DAY;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (exact(middle) === offset) low = middle;
      else high = middle;
    }
    at.push(high);
    offsets.push(next);
    offset = next;
  }
  return { at, offsets };
}
