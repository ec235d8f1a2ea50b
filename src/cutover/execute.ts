import type { Clock } from '../core/clock.ts';
import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import { bounded, deadline, persist, reasonOf, type Deadline } from './budget.ts';
import type { Deadman } from './deadman.ts';
import { title, type Step, type StepName, type StepReport } from './step.ts';

export interface ExecuteOptions {
  readonly from: Side;
  readonly to: Side;
  readonly epoch: number;
  readonly journal: { note(event: string, detail: Readonly<Record<string, unknown>>): Promise<void> };
  /** From the first step that holds writes to the seal. */
  readonly budgetMs: number;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  /** Cancels before the seal; after it there is only forward. */
  readonly signal: AbortSignal;
  readonly holdsLease: () => Promise<boolean>;
  /** Its loss before the seal undoes. It is released at the end, whatever the outcome. */
  readonly deadman?: Deadman;
  /** After everything else that is done while nobody waits. */
  readonly beforeHold?: (signal: AbortSignal) => Promise<void>;
  /** What an operator must know when it is not known which side serves. */
  readonly look: (signal: AbortSignal) => Promise<string>;
}

export interface CutoverOutcome {
  /** `undone`: the side that served before serves. */
  readonly outcome: 'switched' | 'undone' | 'undetermined';
  /** From the pause of the proxies until they were resumed; null when nothing was paused. */
  readonly writePauseMs: number | null;
  readonly steps: readonly StepReport[];
  /** Also beside `switched`: a smoke query failed. */
  readonly error: VerdigrisError | null;
}

const UNDO_MS = 30_000;
const NOTE_MS = 3_000;
const LOOK_MS = 5_000;

/**
 * Runs the steps: each with its intent journalled before it acts. A failure before the record is sealed undoes in reverse
 * order; once it is sealed only the way forward is left. Never rejects.
 */
export const execute = (steps: readonly Step[], options: ExecuteOptions): Promise<CutoverOutcome> =>
  new Execution(steps, options).switchOver();

/** What {@link import('./recover.ts').recover} does: everything undone, or, when the record says sealed, forward. */
export const settle = (
  steps: readonly Step[],
  options: ExecuteOptions,
  direction: 'back' | 'forward',
): Promise<CutoverOutcome> => new Execution(steps, options).settle(direction);

class Execution {
  readonly #steps: readonly Step[];
  readonly #options: ExecuteOptions;
  readonly #reports = new Map<StepName, StepReport>();
  readonly #acted = new Set<Step>();
  #heldSince: number | null = null;
  #heldUntil: number | null = null;
  #budget: Deadline | null = null;
  /** Set once the record is known to be sealed. */
  #sealed = false;

  constructor(steps: readonly Step[], options: ExecuteOptions) {
    this.#steps = steps;
    this.#options = options;
  }

  async switchOver(): Promise<CutoverOutcome> {
    const decided = this.#steps.findIndex((step) => step.seals) + 1;
    try {
      for (const step of this.#steps.slice(0, decided)) {
        if (step.held && this.#heldSince === null) await this.#beforeHold();
        await this.#act(step, this.#limit(step));
      }
    } catch (error) {
      return await this.#back(asVerdigrisError(error), [...this.#acted]);
    } finally {
      this.#budget?.[Symbol.dispose]();
    }
    this.#sealed = true;
    // It would find the record sealed and do nothing; the clients do not wait for its end.
    void this.#options.deadman?.disarm();
    return this.#forward(this.#steps.slice(decided));
  }

  settle(direction: 'back' | 'forward'): Promise<CutoverOutcome> {
    if (direction === 'forward') {
      this.#sealed = true;
      return this.#forward(this.#steps.filter((step) => step.forward));
    }
    return this.#back(new VerdigrisError('INTERRUPTED', 'An interrupted switch was found.'), this.#steps);
  }

  async #beforeHold(): Promise<void> {
    const { beforeHold } = this.#options;
    if (beforeHold === undefined) return;
    const signal = AbortSignal.any(this.#stoppers());
    await bounded(beforeHold(signal), signal);
  }

  #stoppers(): AbortSignal[] {
    const { signal, deadman } = this.#options;
    return [signal, ...(deadman ? [deadman.lost] : [])];
  }

  /** The signal of a step before the seal. The seal itself is not cancelled: its outcome would not be known. */
  #limit(step: Step): Deadline {
    const { clock, budgetMs } = this.#options;
    const stoppers = this.#stoppers();
    const stopped = [...stoppers, ...(this.#budget ? [this.#budget.signal] : [])].find(
      (other) => other.aborted,
    );
    if (stopped) throw reasonOf(stopped);
    if (step.held && this.#heldSince === null) {
      this.#heldSince = clock.monotonic();
      this.#budget = deadline(clock, budgetMs, `The write pause of ${budgetMs} ms was used up.`);
    }
    const others = [...stoppers, ...(this.#budget ? [this.#budget.signal] : [])];
    const late = `Step ${step.name} took longer than ${step.timeoutMs} ms.`;
    return deadline(clock, step.timeoutMs, late, step.seals ? [] : others);
  }

  async #act(step: Step, limit: Deadline): Promise<void> {
    const { clock, failpoints, journal, epoch, log } = this.#options;
    const started = clock.monotonic();
    using _ = limit;
    try {
      await bounded(journal.note('cutover.step', { step: step.name, epoch, state: 'begin' }), limit.signal);
      await this.#checkLease(limit.signal);
      this.#acted.add(step);
      await failpoints.hit(`cutover.step.${step.name}.before`);
      // The last look before the act: an engine that stood still has been replaced.
      if (!this.#sealed) await this.#options.deadman?.confirm(limit.signal);
      const detail = await step.run(limit.signal);
      if (step.name === 'resume') this.#heldUntil = clock.monotonic();
      this.#report(step, 'ok', detail, clock.monotonic() - started);
      await failpoints.hit(`cutover.step.${step.name}.after`);
    } catch (caught) {
      const error = withReason(asVerdigrisError(caught), limit.signal);
      this.#report(step, 'failed', error.message, clock.monotonic() - started);
      await this.#noteIfPossible('cutover.step', {
        step: step.name,
        epoch,
        state: 'failed',
        code: error.code,
        message: error.message,
      });
      throw error;
    }
    log.info({ step: step.name, epoch }, 'cutover step done');
    const outcome = journal.note('cutover.step', { step: step.name, epoch, state: 'ok' });
    // What the seal decided stands in the record already; a journal that does not answer must not turn it back.
    if (step.seals) await this.#tolerate(outcome);
    else await bounded(outcome, limit.signal);
  }

  async #checkLease(signal: AbortSignal): Promise<void> {
    if (await bounded(this.#options.holdsLease(), signal)) return;
    throw new VerdigrisError('SINK_FENCED', 'Another engine has taken over this run during the switch.');
  }

  async #back(error: VerdigrisError, acted: readonly Step[]): Promise<CutoverOutcome> {
    const { epoch } = this.#options;
    const list = acted.filter((step) => 'undo' in step).toReversed();
    if (list.length === 0) return this.#end(error.code === 'SINK_FENCED' ? 'undetermined' : 'undone', error);
    await this.#noteIfPossible('cutover.undo', { epoch, code: error.code, message: error.message });
    const result = await this.#undo(list);
    if (result.sealed) {
      this.#sealed = true;
      return this.#forward(this.#steps.filter((step) => step.forward));
    }
    if (result.stuck) return this.#undetermined(error);
    // What could not be taken back here may still be by the one beside us.
    if (result.problems.length > 0) this.#options.deadman?.abandon();
    this.#heldUntil = this.#options.clock.monotonic();
    const problems =
      result.problems.length > 0 ? ` Not everything was taken back: ${result.problems.join('; ')}.` : '';
    const remedy =
      result.problems.length > 0
        ? `${title(this.#options.from)} serves. Make the named proxies reachable, then run \`verdigris start\`: it finishes the undo.`
        : error.remedy;
    return this.#end(
      'undone',
      new VerdigrisError('CUTOVER_UNDONE', `${error.message}${problems}`, {
        remedy,
        context: { ...error.context, code: error.code },
        cause: error,
      }),
    );
  }

  async #undo(
    list: readonly Step[],
  ): Promise<{ sealed: boolean; stuck: boolean; problems: readonly string[] }> {
    const { clock, failpoints, log } = this.#options;
    const problems: string[] = [];
    let stuck = false;
    for (const step of list) {
      const ms = step.undoTimeoutMs ?? UNDO_MS;
      using limit = deadline(clock, ms, `The undo of step ${step.name} took longer than ${ms} ms.`);
      try {
        // Without the lease only our own fence is taken back, by its epoch; the proxies belong to the other engine now.
        if (!step.undoFirst && (await this.#lostLease(limit.signal))) {
          stuck = true;
          continue;
        }
        await failpoints.hit(`cutover.step.${step.name}.undo`);
        const undone = await persist(async () => step.undo?.(limit.signal), {
          clock,
          signal: limit.signal,
          hopeless: ({ code }) => code === 'STATE_CONFLICT',
        });
        if (undone?.sealed) return { sealed: true, stuck, problems };
        this.#report(step, 'undone', undone?.detail ?? '', null);
      } catch (caught) {
        const error = asVerdigrisError(caught);
        log.error({ step: step.name, code: error.code }, 'a step could not be undone');
        this.#report(step, 'failed', `not undone: ${error.message}`, null);
        problems.push(error.message);
        if (step.undoFirst) return { sealed: false, stuck: true, problems };
      }
    }
    return { sealed: false, stuck, problems };
  }

  /** For the way back: a lease that cannot be read is not lost, the side that served must be opened also when the lease's side is down. */
  async #lostLease(signal: AbortSignal): Promise<boolean> {
    try {
      return !(await bounded(this.#options.holdsLease(), signal));
    } catch {
      return false;
    }
  }

  async #forward(steps: readonly Step[]): Promise<CutoverOutcome> {
    const { clock } = this.#options;
    let alarm: VerdigrisError | null = null;
    for (const step of steps) {
      const late = `Step ${step.name} took longer than ${step.timeoutMs} ms.`;
      using limit = deadline(clock, step.timeoutMs, late);
      try {
        const attempt = () => this.#act(step, { signal: limit.signal, [Symbol.dispose]: () => undefined });
        if (step.alarmOnly) await attempt();
        else
          await persist(attempt, {
            clock,
            signal: limit.signal,
            hopeless: ({ code }) => code === 'SINK_FENCED',
          });
      } catch (caught) {
        const error = asVerdigrisError(caught);
        if (!step.alarmOnly) return this.#undetermined(error);
        alarm = error;
      }
    }
    return this.#end('switched', alarm);
  }

  async #undetermined(error: VerdigrisError): Promise<CutoverOutcome> {
    using limit = deadline(this.#options.clock, LOOK_MS, 'looking took too long');
    let facts: string;
    try {
      facts = await bounded(this.#options.look(limit.signal), limit.signal);
    } catch (caught) {
      facts = `the facts could not be read: ${asVerdigrisError(caught).message}`;
    }
    const { from, to } = this.#options;
    const known = this.#sealed
      ? `${title(from)} is sealed: it can only go forward to ${to}.`
      : `It is not known whether ${from} is sealed.`;
    return this.#end(
      'undetermined',
      new VerdigrisError('CUTOVER_UNDETERMINED', `${known} ${facts}. It stopped because: ${error.message}`, {
        remedy: `Resume no proxy by hand. Make blue, green and the proxies reachable, then run \`verdigris recover\`: it reads the record on ${from} and goes on or undoes.`,
        context: { ...error.context, code: error.code },
        cause: error,
      }),
    );
  }

  async #end(outcome: CutoverOutcome['outcome'], error: VerdigrisError | null): Promise<CutoverOutcome> {
    const { clock, epoch, log } = this.#options;
    const writePauseMs =
      this.#heldSince === null ? null : (this.#heldUntil ?? clock.monotonic()) - this.#heldSince;
    const { deadman } = this.#options;
    if (outcome === 'undetermined' && !this.#sealed) deadman?.abandon();
    else await deadman?.disarm();
    await this.#noteIfPossible('cutover.end', { epoch, outcome, writePauseMs, code: error?.code ?? null });
    log[outcome === 'switched' && error === null ? 'info' : 'error'](
      { epoch, outcome, writePauseMs, code: error?.code },
      'cutover ended',
    );
    const steps = this.#steps.map((step) => this.#reports.get(step.name) ?? plain(step, 'skipped'));
    return { outcome, writePauseMs, steps, error };
  }

  #report(step: Step, outcome: StepReport['outcome'], detail: string, ms: number | null): void {
    this.#reports.set(step.name, { ...plain(step, outcome), ms, detail });
  }

  /** For the undo and the end: clients must be served again even when the journal's side is down. */
  #noteIfPossible(event: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    return this.#tolerate(this.#options.journal.note(event, detail));
  }

  async #tolerate(note: Promise<void>): Promise<void> {
    using limit = deadline(this.#options.clock, NOTE_MS, 'the journal does not answer');
    try {
      await bounded(note, limit.signal);
    } catch (error) {
      this.#options.log.warn(
        { error: asVerdigrisError(error).message },
        'an entry of the journal is missing',
      );
    }
  }
}

/** What was being waited for, and why the wait ended. */
function withReason(error: VerdigrisError, signal: AbortSignal): VerdigrisError {
  if (!signal.aborted) return error;
  const reason = reasonOf(signal);
  if (error === reason || error.message === reason.message) return error;
  return new VerdigrisError(error.code, `${error.message} ${reason.message}`, {
    remedy: error.remedy,
    context: error.context,
    cause: error,
  });
}

const plain = (step: Step, outcome: StepReport['outcome']): StepReport => ({
  name: step.name,
  description: step.describe(),
  pastPointOfNoReturn: step.pastPointOfNoReturn,
  outcome,
  ms: null,
  detail: '',
});

const MEASURE_MS = 15_000;

/** The list that a real run would execute, with what each step would cost now. Changes nothing. */
export async function dryRun(
  steps: readonly Step[],
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<readonly StepReport[]> {
  const reports: StepReport[] = [];
  for (const step of steps) {
    if (!step.measure) {
      reports.push(plain(step, 'planned'));
      continue;
    }
    using limit = deadline(clock, MEASURE_MS, `Measuring took longer than ${MEASURE_MS} ms.`, [signal]);
    const started = clock.monotonic();
    try {
      const detail = await bounded(step.measure(limit.signal), limit.signal);
      reports.push({ ...plain(step, 'planned'), ms: clock.monotonic() - started, detail });
    } catch (error) {
      if (signal.aborted) throw reasonOf(signal);
      reports.push({
        ...plain(step, 'planned'),
        detail: `could not be measured: ${asVerdigrisError(error).message}`,
      });
    }
  }
  return reports;
}
