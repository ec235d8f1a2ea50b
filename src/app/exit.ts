import type { Code } from '../core/errors.ts';

/** Exit codes, the same for every command. */
export const EXIT = {
  done: 0,
  unexpected: 1,
  usage: 2,
  preflight: 3,
  gate: 4,
  differences: 5,
  undone: 6,
  undetermined: 7,
  positionLost: 8,
  locked: 9,
  pending: 10,
  stalePlan: 11,
  timedOut: 124,
  interrupted: 130,
  terminated: 143,
} as const;

/** What each exit code means, for `help exit-codes`. */
export const EXIT_MEANINGS: Readonly<Record<number, string>> = {
  0: 'done',
  1: 'unexpected error',
  2: 'usage or config error',
  3: 'preflight failed',
  4: 'a gate is not met (nothing was changed)',
  5: 'verification found differences',
  6: 'cutover aborted and undone, blue still serves',
  7: 'cutover undetermined: an operator must look (prints how)',
  8: 'position lost (the source no longer has the log we need): new snapshot needed',
  9: 'another engine holds the lock',
  10: '--exit-code: changes pending / not ready',
  11: 'refused: plan hash is stale',
  124: 'timed out waiting',
  130: 'interrupted (SIGINT), state saved, resumable',
  143: 'terminated (SIGTERM), state saved, resumable',
};

const BY_CODE: Partial<Record<Code, number>> = {
  CONFIG_INVALID: EXIT.usage,
  CONFIG_NOT_FOUND: EXIT.usage,
  CONFIG_SECRET: EXIT.usage,
  CONFIG_ENGINES_DIFFER: EXIT.usage,
  CONFIG_MODULE: EXIT.usage,
  MAPPING_INVALID: EXIT.usage,
  MAPPING_NO_WAY_BACK: EXIT.gate,
  USAGE: EXIT.usage,
  CONFIRMATION: EXIT.usage,
  PREFLIGHT_FAILED: EXIT.preflight,
  CUTOVER_GATE: EXIT.gate,
  VERIFY_DIFFERENT: EXIT.differences,
  CUTOVER_UNDONE: EXIT.undone,
  CUTOVER_UNDETERMINED: EXIT.undetermined,
  SOURCE_SLOT_MISSING: EXIT.positionLost,
  SOURCE_POSITION_LOST: EXIT.positionLost,
  SOURCE_AHEAD: EXIT.positionLost,
  STATE_LEASE_HELD: EXIT.locked,
  STATE_CONFLICT: EXIT.locked,
  SINK_FENCED: EXIT.locked,
  PLAN_STALE: EXIT.stalePlan,
  TIMED_OUT: EXIT.timedOut,
  INTERRUPTED: EXIT.interrupted,
};

export const exitCodeOf = (code: Code): number => BY_CODE[code] ?? EXIT.unexpected;
