import type { GateOverride } from '../cutover/context.ts';
import type { Side } from '../core/engine.ts';
import type { RunRecord } from '../core/state.ts';
import { VerdigrisError } from '../core/errors.ts';
import { nextOpening, openAt, showOpening, type CutoverWindow } from './windows.ts';

/**
 * A switch or rollback that somebody asked for. It stands in the record of the run on green, so that an engine that is started again
 * goes on waiting, and a cancelled one never starts.
 */
export interface CutoverRequest {
  readonly id: string;
  /** The side that shall serve: `blue` for a rollback, which never waits. */
  readonly to: Side;
  /**
   * `waiting` for its time and the gates · `running` · `done`: it ran, see `outcome` · `cancelled` · `expired`: the gates were not all
   * open before its deadline · `failed`: it could not begin. Only `running` and `done` changed anything.
   */
  readonly state: 'waiting' | 'running' | 'done' | 'cancelled' | 'expired' | 'failed';
  /** Who asked; null: nobody said. */
  readonly by: string | null;
  /** The plan that was looked at; another plan ends the wait. */
  readonly planHash: string;
  readonly requestedAt: string;
  /** Not before this moment; null: as soon as every gate is open. */
  readonly notBefore: string | null;
  /** Only while this window is open. */
  readonly window: string | null;
  /** It begins before this moment or not at all; null: it began at once. */
  readonly deadline: string | null;
  readonly maxWritePauseMs: number | null;
  readonly overrides: readonly GateOverride[];
  readonly outcome: 'switched' | 'undone' | 'undetermined' | null;
  /** What it waits for, or why it ended; empty when there is nothing to say. */
  readonly reason: string;
  readonly endedAt: string | null;
}

/** When a request may begin: as soon as the gates are open, within `waitMs`; from a moment on; or in a window. */
export interface When {
  /** ISO 8601 with a zone. */
  readonly at?: string | undefined;
  /** Name of a window of the configuration. */
  readonly window?: string | undefined;
  /** How long it may wait for the gates, from `at` or from now on. */
  readonly waitMs?: number | undefined;
}

/** An `--at` without `--wait` gives the gates this long. */
const DEFAULT_WAIT_MS = 3_600_000;

const KEY = 'request';

export const requestOf = (record: RunRecord | null): CutoverRequest | null =>
  (record?.detail[KEY] as CutoverRequest | undefined) ?? null;

export const withRequest = (record: RunRecord, request: CutoverRequest): RunRecord => ({
  ...record,
  detail: { ...record.detail, [KEY]: request },
});

export const isPending = (request: CutoverRequest | null): request is CutoverRequest =>
  request?.state === 'waiting' || request?.state === 'running';

/** What it was asked with, for the attempt. */
export const given = ({
  by,
  maxWritePauseMs,
  overrides,
}: CutoverRequest): { by?: string; maxWritePauseMs?: number; overrides: readonly GateOverride[] } => ({
  ...(by === null ? {} : { by }),
  ...(maxWritePauseMs === null ? {} : { maxWritePauseMs }),
  overrides,
});

export const iso = (ms: number): string => new Date(ms).toISOString();

/**
 * The moments between which a request may begin.
 * @throws VerdigrisError USAGE for a moment that cannot be, or that lies in no window
 */
export function timesOf(
  when: When,
  windows: readonly CutoverWindow[],
  now: number,
): Pick<CutoverRequest, 'notBefore' | 'window' | 'deadline'> {
  const { at, window, waitMs } = when;
  if (at !== undefined && window !== undefined) throw usage('Give a moment or a window, not both.');
  if (window !== undefined) {
    if (!windows.some(({ name }) => name === window)) {
      throw usage(
        `There is no window ${window}.`,
        windows.length === 0
          ? 'Name one in cutover.windows.'
          : `Windows: ${windows.map(({ name }) => name).join(', ')}.`,
      );
    }
    const opening = openAt(windows, now, window) ?? nextOpening(windows, now, window);
    if (opening === null) throw usage(`CutoverWindow ${window} does not open again.`);
    const begin = Math.max(opening.opensAt, now);
    const end = waitMs === undefined ? opening.closesAt : Math.min(opening.closesAt, begin + waitMs);
    return { notBefore: opening.opensAt > now ? iso(opening.opensAt) : null, window, deadline: iso(end) };
  }
  if (at === undefined) {
    if (waitMs === undefined) throw usage('A request that waits needs a moment, a window or a time to wait.');
    return { notBefore: null, window: null, deadline: iso(now + waitMs) };
  }
  const begin = Date.parse(at);
  if (Number.isNaN(begin) || !/(?:Z|[+-]\d\d:?\d\d)$/i.test(at)) {
    throw usage(
      `${at} is no moment with a time zone.`,
      'Write it like 2026-11-28T02:00:00+01:00 or 2026-11-28T01:00:00Z.',
    );
  }
  if (begin < now) throw usage(`${at} has passed.`);
  if (windows.length > 0 && openAt(windows, begin) === null) {
    const next = nextOpening(windows, begin);
    throw usage(
      `No window is open at ${at}.`,
      next === null ? 'No window opens after it.' : `The next one after it: ${showOpening(next)}.`,
    );
  }
  return { notBefore: iso(begin), window: null, deadline: iso(begin + (waitMs ?? DEFAULT_WAIT_MS)) };
}

const usage = (message: string, remedy?: string): VerdigrisError =>
  new VerdigrisError('USAGE', message, remedy === undefined ? {} : { remedy });
