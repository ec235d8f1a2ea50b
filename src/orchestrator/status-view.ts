import type { Clock } from '../core/clock.ts';
import type { VerdigrisError } from '../core/errors.ts';
import type { GateResult } from '../core/gate.ts';
import type { Position } from '../core/position.ts';
import type { FinishStep } from '../core/sink.ts';
import type { Phase, RunRecord } from '../core/state.ts';
import { showTable } from '../core/table.ts';
import type { Pipeline, PipelineState } from '../pipeline/pipeline.ts';
import type { Compiled } from './compiled.ts';
import { Rate } from './rate.ts';
import type { Settings } from './settings.ts';
import { isPending } from './requests.ts';
import type { Condition, Status, SwitchStatus, VerifyState } from './status.ts';

/** What is known of verification; stored with the run. */
export interface Verification {
  readonly state: VerifyState['state'];
  readonly rows: number;
  readonly differences: number;
  /** Wall clock of the last clean full round. */
  readonly cleanAt: number | null;
  readonly detail: string | null;
}

export interface StatusFacts {
  readonly record: RunRecord | null;
  readonly planHash: string;
  /** What carries. */
  readonly pipeline: Pipeline | null;
  /** What filled green. */
  readonly copied: Pipeline | null;
  readonly back: Status['rollback'];
  readonly compiled: Compiled | null;
  readonly pipelineState: PipelineState;
  readonly copyPaused: boolean;
  readonly throttled: string | null;
  readonly verification: Verification;
  readonly gates: readonly GateResult[];
  readonly switching: SwitchStatus;
  readonly describe: (position: Position) => string;
}

/** Turns what is going on into `status`. Phase, condition, reason and next action are four things, never one. */
export class StatusView {
  readonly #clock: Clock;
  readonly #settings: Settings;
  readonly #startedAt: number;
  readonly #copyRows: Rate;
  readonly #changes: Rate;
  readonly #verified: Rate;
  #finishing: string | null = null;
  blocked: VerdigrisError | null = null;
  pauseReason = '';

  constructor(clock: Clock, settings: Settings) {
    this.#clock = clock;
    this.#settings = settings;
    this.#startedAt = clock.monotonic();
    this.#copyRows = new Rate(clock);
    this.#changes = new Rate(clock);
    this.#verified = new Rate(clock);
  }

  finishing(step: FinishStep | null): void {
    this.#finishing =
      step === null
        ? null
        : `${step.kind} ${step.name} on ${showTable(step.table)} (${step.done} of ${step.total})`;
  }

  status(facts: StatusFacts): Status {
    const { record, pipeline, gates, verification } = facts;
    const phase = record?.phase ?? 'preparing';
    const { condition, reason, error } = this.#condition(facts);
    const positions = pipeline?.positions;
    const show = (position: Position | null | undefined): string | null =>
      position === null || position === undefined ? null : facts.describe(position);
    const counters = pipeline?.counters;
    this.#changes.sample(counters?.changes ?? 0);
    if (verification.state === 'running') this.#verified.sample(verification.rows);
    return {
      migration: this.#settings.migration,
      phase,
      condition,
      reason,
      next: this.#next(phase, condition, facts),
      activeSide: record?.activeSide ?? 'blue',
      epoch: record?.epoch ?? 0,
      planHash: facts.planHash,
      upSeconds: (this.#clock.monotonic() - this.#startedAt) / 1000,
      lag: {
        commitSeconds: pipeline?.lag.commitSeconds ?? null,
        distanceBytes: pipeline?.distance ?? null,
        roundTripMs: pipeline?.lag.roundTripMs ?? null,
        lastEventAgeSeconds: pipeline?.lag.lastEventAgeSeconds ?? null,
      },
      copy: this.#copy(facts),
      tables: tables(facts),
      apply: {
        transactions: counters?.transactions ?? 0,
        changes: counters?.changes ?? 0,
        changesPerSecond: this.#changes.perSecond,
        groups: counters?.groups ?? 0,
        retries: counters?.retries ?? 0,
        fallbacks: pipeline?.fallbacks ?? 0,
        queueBytes: pipeline?.queuedBytes ?? 0,
        holes: pipeline?.holes ?? 0,
        rejects: pipeline?.rejects ?? 0,
      },
      verify: {
        state: verification.state,
        rows: verification.rows,
        totalRows: facts.compiled === null ? null : totalRows(facts.compiled),
        differences: verification.differences,
        ageSeconds: verification.cleanAt === null ? null : (this.#clock.now() - verification.cleanAt) / 1000,
        etaSeconds:
          verification.state === 'running' && facts.compiled !== null
            ? this.#verified.eta(totalRows(facts.compiled))
            : null,
        detail: verification.detail,
      },
      source: {
        state: pipeline?.health?.state ?? null,
        retainedBytes: pipeline?.health?.retainedBytes ?? null,
        limitBytes: pipeline?.health?.limitBytes ?? null,
        oldestTransactionSeconds: pipeline?.health?.oldestTransactionSeconds ?? null,
      },
      gates,
      ...facts.switching,
      positions: {
        head: show(positions?.head),
        received: show(positions?.received),
        applied: show(positions?.applied),
      },
      rollback: facts.back,
      error: error === null ? null : { code: error.code, message: error.message, remedy: error.remedy },
    };
  }

  #condition(facts: StatusFacts): { condition: Condition; reason: string; error: VerdigrisError | null } {
    const { pipelineState, pipeline } = facts;
    if (this.blocked !== null)
      return { condition: 'blocked', reason: this.blocked.message, error: this.blocked };
    if (pipelineState.condition === 'blocked' || pipelineState.condition === 'error') return pipelineState;
    if (facts.copyPaused || pipelineState.condition === 'paused') {
      return { condition: 'paused', reason: this.pauseReason, error: null };
    }
    if (facts.throttled !== null) return { condition: 'throttled', reason: facts.throttled, error: null };
    if (pipeline !== null && pipeline.waiting !== null)
      return { condition: 'blocked', reason: pipeline.waiting, error: null };
    return { condition: 'running', reason: '', error: null };
  }

  #copy({ copied: pipeline, compiled }: StatusFacts): Status['copy'] {
    const units = pipeline?.progress ?? [];
    const rows = units.reduce((sum, unit) => sum + unit.rows, 0);
    const total = compiled === null ? null : totalRows(compiled);
    this.#copyRows.sample(rows);
    const done = units.reduce((sum, unit) => sum + unit.done, 0);
    const ranges = units.reduce((sum, unit) => sum + unit.ranges, 0);
    const copying = done < ranges;
    return {
      rows,
      totalRows: total,
      bytes: units.reduce((sum, unit) => sum + unit.bytes, 0),
      rowsPerSecond: copying ? this.#copyRows.perSecond : null,
      etaSeconds: copying ? this.#copyRows.eta(total) : null,
      rangesDone: done,
      ranges,
      finishing: this.#finishing,
    };
  }

  #next(phase: Phase, condition: Condition, facts: StatusFacts): Status['next'] {
    const { gates, switching } = facts;
    const act = (action: string, command: string | null = null): Status['next'] => ({ action, command });
    if (condition === 'blocked') return act('correct what the reason says, then resume', 'verdigris resume');
    if (condition === 'paused') return act('resume when you are ready', 'verdigris resume');
    switch (phase) {
      case 'preparing':
      case 'copying':
      case 'catching_up':
        return act('wait until it replicates', 'verdigris wait --for phase=replicating');
      case 'replicating': {
        const shut = gates.filter((gate) => !gate.ok);
        const names = shut.map((gate) => gate.name).join(', ');
        const { request } = switching;
        if (isPending(request)) {
          const from = request.notBefore === null ? '' : `, not before ${request.notBefore}`;
          const until = request.deadline === null ? '' : `, until ${request.deadline}`;
          const open = shut.length === 0 ? '' : `; shut: ${names}`;
          return act(
            `nothing: cutover ${request.id} begins by itself once every gate is open${from}${until}${open}`,
            'verdigris cutover cancel',
          );
        }
        if (shut.length > 0 && shut.every((gate) => gate.name === 'approvals' || gate.name === 'window')) {
          const [first] = shut;
          return first?.name === 'approvals'
            ? act(`approvals: ${first.reason}. Held until then, without limit`, 'verdigris approve --as ROLE')
            : act(
                `wait for the window (${first?.reason ?? ''})`,
                `verdigris cutover --window ${switching.window?.name ?? 'NAME'}`,
              );
        }
        return shut.length === 0
          ? act('every gate is open: look at the switch, then start it', 'verdigris cutover --dry-run')
          : act(`wait for ${shut.length} gates: ${names}`, 'verdigris wait --for gate=ready');
      }
      case 'cutting_over':
        return act('the switch is running', 'verdigris status --watch');
      case 'undetermined':
        return act('make both sides and every proxy reachable, then recover', 'verdigris recover');
      case 'reversing':
        return act(
          facts.back?.fits === null || facts.back === null
            ? 'green serves, blue is fenced and does not follow; finish when you need it no more'
            : facts.back.fits
              ? 'green serves and blue follows: go back with `verdigris rollback`, or finish when you need blue no more'
              : 'green serves, but blue cannot hold every row: see rollback in the status; finish when you need blue no more',
          'verdigris finish',
        );
      case 'finished':
      case 'aborted':
        return act('nothing to do');
    }
  }
}

const totalRows = (compiled: Compiled): number =>
  [...compiled.estimates.values()].reduce((sum, estimate) => sum + estimate.rows, 0);

function tables({ copied: pipeline, compiled }: StatusFacts): Status['tables'] {
  if (pipeline === null || compiled === null) return [];
  const progress = new Map(pipeline.progress.map((unit) => [unit.unit, unit]));
  return compiled.units.map((unit) => {
    const state = progress.get(unit.id);
    const rows = unit.relations.map(
      (relation) => compiled.estimates.get(showTable(relation.table))?.rows ?? 0,
    );
    return {
      table: unit.relations.map((relation) => showTable(relation.table)).join(' + '),
      rows: state?.rows ?? 0,
      totalRows: rows.reduce((sum, count) => sum + count, 0),
      rangesDone: state?.done ?? 0,
      ranges: state?.ranges ?? 0,
    };
  });
}
