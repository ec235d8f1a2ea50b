import { Cron } from 'croner';
import type { Verdict } from '../core/gate.ts';

/** A time at which a switch may start, again and again. */
export interface CutoverWindow {
  readonly name: string;
  /** Five fields: minute, hour, day of month, month, day of week, on the clock of the time zone. */
  readonly cron: string;
  /** Elapsed time, also over a change of the clocks. */
  readonly durationMs: number;
  /** IANA name. */
  readonly timezone: string;
}

/** One opening of a window; milliseconds since 1970. */
export interface Opening {
  readonly name: string;
  readonly opensAt: number;
  readonly closesAt: number;
  readonly timezone: string;
}

const schedule = ({ cron, timezone }: Pick<CutoverWindow, 'cron' | 'timezone'>): Cron =>
  new Cron(cron, { timezone, paused: true, mode: '5-part' });

/** Which part of it is wrong; null when it opens some day. Without the text itself. */
export function windowProblem(window: Pick<CutoverWindow, 'cron' | 'timezone'>): 'cron' | 'timezone' | null {
  // A zone is looked at only when a time is asked for.
  const opens = (cron: string): boolean => {
    try {
      return schedule({ cron, timezone: window.timezone }).nextRun() !== null;
    } catch {
      return false;
    }
  };
  return opens(window.cron) ? null : opens('0 0 * * *') ? 'cron' : 'timezone';
}

const opening = (window: CutoverWindow, opensAt: number): Opening => ({
  name: window.name,
  opensAt,
  closesAt: opensAt + window.durationMs,
  timezone: window.timezone,
});

/** The window that is open at that moment and stays so the longest; null: none. `name` narrows to one window. */
export function openAt(windows: readonly CutoverWindow[], now: number, name?: string): Opening | null {
  return (
    windows
      .filter((window) => name === undefined || window.name === name)
      .flatMap((window) => {
        // Times are whole seconds, and the one asked for is not among the earlier ones.
        const [last] = schedule(window).previousRuns(1, new Date(Math.floor(now / 1_000) * 1_000 + 1_000));
        return last === undefined ? [] : [opening(window, last.getTime())];
      })
      .filter(({ closesAt }) => now < closesAt)
      .toSorted((left, right) => right.closesAt - left.closesAt)[0] ?? null
  );
}

/** The next opening after that moment; null when there is none. */
export function nextOpening(windows: readonly CutoverWindow[], now: number, name?: string): Opening | null {
  return (
    windows
      .filter((window) => name === undefined || window.name === name)
      .flatMap((window) => {
        const next = schedule(window).nextRun(new Date(now));
        return next === null ? [] : [opening(window, next.getTime())];
      })
      .toSorted((left, right) => left.opensAt - right.opensAt)[0] ?? null
  );
}

/** `saturday Sat 28 Nov 02:00-04:00 Europe/Berlin`, on the clock of its zone. */
export function showOpening({ name, opensAt, closesAt, timezone }: Opening): string {
  const format = (options: Intl.DateTimeFormatOptions, at: number): string =>
    new Intl.DateTimeFormat('en-GB', { timeZone: timezone, ...options }).format(at).replaceAll(',', '');
  const day = (at: number): string => format({ weekday: 'short', day: 'numeric', month: 'short' }, at);
  const time = (at: number): string => format({ hour: '2-digit', minute: '2-digit' }, at);
  const until = day(closesAt) === day(opensAt) ? time(closesAt) : `${day(closesAt)} ${time(closesAt)}`;
  return `${name} ${day(opensAt)} ${time(opensAt)}-${until} ${timezone}`;
}

/** Days, hours and minutes; seconds under a minute. */
export function showSpan(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.ceil(ms / 1_000)}s`;
  const parts = [
    [Math.floor(minutes / 1_440), 'd'],
    [Math.floor(minutes / 60) % 24, 'h'],
    [minutes % 60, 'm'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .slice(0, 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** Null when no window is configured: any time will do. `name`: only that window will do. */
export function windowVerdict(windows: readonly CutoverWindow[], now: number, name?: string): Verdict | null {
  if (windows.length === 0) return null;
  const limit = name === undefined ? 'in a window' : `in window ${name}`;
  const open = openAt(windows, now, name);
  if (open !== null) {
    return { ok: true, observed: `${open.name}, for ${showSpan(open.closesAt - now)}`, limit, reason: '' };
  }
  const next = nextOpening(windows, now, name);
  const reason =
    next === null
      ? 'no window opens again'
      : `next: ${showOpening(next)}, in ${showSpan(next.opensAt - now)}`;
  return { ok: false, observed: 'closed', limit, reason };
}
