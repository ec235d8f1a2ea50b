import { civilFromDays, daysFromCivil, daysIn } from '../core/calendar.ts';

/**
 * Dates and times as the canonical text has them: `YYYY-MM-DD HH:MM:SS[.ffffff]`, a year of more than four digits as it is, years
 * before 1 with ` BC` at the end, `infinity`, `-infinity`. The calendar is the proleptic Gregorian one.
 */
export interface Civil {
  /** Seconds since 1970-01-01 00:00:00 on the same clock. */
  readonly seconds: number;
  /** `.` and digits as written, or empty. */
  readonly fraction: string;
  /** Seconds east of UTC where the text says so, else null. */
  readonly offset: number | null;
}

const SYNTAX =
  /^(\d{4,7})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(?: ?(Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?))?)?( BC)?$/;
const DAY = 86_400;

export const isInfinite = (text: string): boolean => text === 'infinity' || text === '-infinity';

/** Null when the text is no date or timestamp of the calendar. */
export function parseCivil(text: string): Civil | null {
  const match = SYNTAX.exec(text);
  if (match === null) return null;
  const year = match[9] === undefined ? Number(match[1]) : 1 - Number(match[1]);
  const month = Number(match[2]);
  const day = Number(match[3]);
  const hour = Number(match[4] ?? 0);
  const minute = Number(match[5] ?? 0);
  const second = Number(match[6] ?? 0);
  if (Number(match[1]) === 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return null;
  if (hour > 23 || minute > 59 || second > 59) return null;
  const seconds = daysFromCivil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
  const fraction = match[7] ?? '';
  return { seconds, fraction, offset: match[8] === undefined ? null : parseOffset(match[8]) };
}

function parseOffset(text: string): number {
  if (text === 'Z') return 0;
  const digits = text.slice(1).replaceAll(':', '').padEnd(6, '0');
  const seconds =
    Number(digits.slice(0, 2)) * 3600 + Number(digits.slice(2, 4)) * 60 + Number(digits.slice(4, 6));
  return text[0] === '-' ? -seconds : seconds;
}

/** Canonical text of a timestamp; `suffix` goes between the time and BC (`+00`). */
export function showTimestamp(seconds: number, fraction: string, suffix = ''): string {
  const days = Math.floor(seconds / DAY);
  const { date, era } = dateParts(days);
  const rest = seconds - days * DAY;
  const time = `${two(Math.floor(rest / 3600))}:${two(Math.floor((rest % 3600) / 60))}:${two(rest % 60)}`;
  return `${date} ${time}${trimFraction(fraction)}${suffix}${era}`;
}

/** Canonical text of the date the moment falls on. */
export function showDate(seconds: number): string {
  const { date, era } = dateParts(Math.floor(seconds / DAY));
  return date + era;
}

/** Without zeros at the end: the canonical text never has them. */
export function trimFraction(fraction: string): string {
  if (fraction === '' || !fraction.endsWith('0')) return fraction;
  const trimmed = fraction.replace(/0+$/, '');
  return trimmed === '.' ? '' : trimmed;
}

function dateParts(days: number): { date: string; era: string } {
  const { year, month, day } = civilFromDays(days);
  const shown = year > 0 ? year : 1 - year;
  return { date: `${String(shown).padStart(4, '0')}-${two(month)}-${two(day)}`, era: year > 0 ? '' : ' BC' };
}

const two = (value: number): string => (value < 10 ? `0${value}` : String(value));
