import { SYSTEM_CLOCK } from '../core/clock.ts';
import { NO_FAILPOINTS } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { JournalEvent, RunRecord } from '../core/state.ts';
import { rehearsalOf } from '../orchestrator/rehearsal-result.ts';
import { requestOf } from '../orchestrator/requests.ts';
import { readReport, type RunReport } from '../orchestrator/run-report.ts';
import { connectSide } from './connect.ts';
import type { StatusData } from './envelope.ts';
import type { LoadedConfig } from './load.ts';

/** What is remembered of a run on green, read without an engine and without blue. */
export async function readStored(loaded: LoadedConfig, log: Logger): Promise<RunRecord | null> {
  await using green = await connectSide(loaded, 'green', {
    log,
    clock: SYSTEM_CLOCK,
    failpoints: NO_FAILPOINTS,
  });
  return await green.state.load(loaded.config.migration);
}

export async function readStoredEvents(
  loaded: LoadedConfig,
  log: Logger,
  range: { readonly after: number; readonly limit: number },
): Promise<readonly JournalEvent[]> {
  await using green = await connectSide(loaded, 'green', {
    log,
    clock: SYSTEM_CLOCK,
    failpoints: NO_FAILPOINTS,
  });
  return await green.state.events(loaded.config.migration, range.after, range.limit);
}

/** The record of the run, read without an engine; null: green remembers none. */
export async function readStoredReport(loaded: LoadedConfig, log: Logger): Promise<RunReport | null> {
  await using green = await connectSide(loaded, 'green', {
    log,
    clock: SYSTEM_CLOCK,
    failpoints: NO_FAILPOINTS,
  });
  const record = await green.state.load(loaded.config.migration);
  return record === null ? null : readReport(record, green);
}

const ageSeconds = (at: string): number => Math.max(0, (SYSTEM_CLOCK.now() - Date.parse(at)) / 1_000);

const ENDED = new Set(['finished', 'aborted']);

/** Nothing of it can go on. */
export const hasEnded = (record: RunRecord): boolean => ENDED.has(record.phase);

/** A status of what is stored. Everything that only a running engine can know is null. */
export function storedStatus(migration: string, record: RunRecord | null): StatusData {
  const rehearsal = rehearsalOf(record);
  const ended = record !== null && hasEnded(record);
  return {
    migration,
    phase: record?.phase ?? 'preparing',
    condition: ended ? 'running' : 'blocked',
    reason: ended ? '' : record === null ? 'never started' : 'no engine runs',
    next: ended
      ? { action: 'nothing to do', command: null }
      : {
          action:
            record === null ? 'look at the plan, then start' : 'start the engine; it goes on where it was',
          command: record === null ? 'verdigris plan' : 'verdigris start',
        },
    activeSide: record?.activeSide ?? 'blue',
    epoch: record?.epoch ?? 0,
    planHash: record?.planHash ?? '',
    upSeconds: null,
    lag: { commitSeconds: null, distanceBytes: null, roundTripMs: null, lastEventAgeSeconds: null },
    copy: null,
    tables: [],
    apply: null,
    verify: null,
    source: null,
    gates: [],
    window: null,
    approvals: null,
    request: requestOf(record),
    rehearsal: rehearsal === null ? null : { ...rehearsal, ageSeconds: ageSeconds(rehearsal.at) },
    positions: { head: null, received: null, applied: null },
    rollback: null,
    error: null,
  };
}
