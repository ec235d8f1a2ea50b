import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { GateResult } from '../core/gate.ts';
import type { CutoverContext } from '../cutover/context.ts';
import { bounded, deadline, persist } from '../cutover/budget.ts';
import { dryRun, type CutoverOutcome } from '../cutover/execute.ts';
import { closedGates } from '../cutover/gates.ts';
import { cutover, recover } from '../cutover/recover.ts';
import { cutoverSteps } from '../cutover/steps.ts';
import type { CutoverReport, TurnRequest } from './api.ts';
import { other, type Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';
import { requirePhase, STEADY } from './phase.ts';
import { gateError, reportOf, switchContext } from './switching.ts';
import type { RequestDesk } from './request-desk.ts';
import type { SwitchControl } from './switch-control.ts';
import type { Verifications } from './verifications.ts';
import { wayBackOf } from './way-back.ts';
import type { Way } from './way.ts';

export interface TurnsOptions {
  readonly run: MigrationOptions;
  /** Unique among processes: part of every mark. */
  readonly holder: string;
  readonly verifications: Verifications;
  readonly control: Pick<SwitchControl, 'rehearsed'>;
  /** Switches and rollbacks that were asked for. */
  readonly desk: Pick<RequestDesk, 'begin' | 'leave' | 'end' | 'request'>;
  /** As who starts it would find them. */
  readonly gates: (held: Held, starter: string | null) => Promise<readonly GateResult[]>;
  /** Of the run. */
  readonly life: AbortSignal;
  /** This process replicates; else it only ends what was interrupted. */
  readonly started: () => boolean;
  /** Aborted when replication to green is stopped. */
  readonly working: () => AbortSignal;
  /** From now on this way carries, and the other one is stopped; null: none does. */
  readonly carry: (held: Held, way: Way | null) => Promise<void>;
}

/** What is stored before a switch or a rollback begins, for whoever has to end it. */
interface Attempt {
  readonly from: Side;
  readonly wayBack: boolean;
}

/** How long who asked waits until what it came to is stored. Twice the notes of a journal that does not answer. */
const STORE_MS = 6_000;
/** And then until the way that fits it carries. */
const CARRY_MS = 30_000;
const NAMES: Readonly<Record<Side, string>> = { blue: 'a cutover', green: 'a rollback' };

/** Switches and rollbacks of a run: the same steps, with the sides exchanged. One at a time. */
export class Turns {
  readonly #o: TurnsOptions;
  #running = false;
  /** An attempt is over, and what it came to is not stored yet. */
  #settling: Promise<void> | null = null;

  constructor(options: TurnsOptions) {
    this.#o = options;
  }

  /** Nothing else that moves or rehearses runs meanwhile. @throws VerdigrisError CUTOVER_PHASE */
  async exclusively<T>(act: () => Promise<T>): Promise<T> {
    if (this.#running)
      throw new VerdigrisError('CUTOVER_PHASE', 'A switch, rollback or rehearsal is running already.');
    if (this.#settling !== null)
      throw new VerdigrisError(
        'CUTOVER_PHASE',
        'What the last attempt came to is being stored on green, and what follows from it begun.',
        {
          remedy: 'Wait. If green does not answer, make it reachable: it is stored as soon as green answers.',
        },
      );
    this.#running = true;
    try {
      return await act();
    } finally {
      this.#running = false;
    }
  }

  /**
   * Lets the other side than `from` serve.
   * @param waited id of the request that waited; absent: it was asked for just now
   * @throws VerdigrisError CUTOVER_PHASE, CUTOVER_GATE: nothing was changed
   */
  async turn(held: Held, from: Side, request: TurnRequest, waited?: string): Promise<CutoverReport> {
    const { run, verifications, control, desk } = this.#o;
    const { state } = held;
    requirePhase(state.phase, [STEADY[from]], NAMES[from]);
    if (from === 'green' && held.reverse.way === null) {
      throw new VerdigrisError('MAPPING_NO_WAY_BACK', 'The switch was made without a way back.', {
        remedy: 'Blue has nothing of what was written on green since. Go on with green: `verdigris finish`.',
      });
    }
    const overrides = request.overrides ?? [];
    const starter = request.by ?? null;
    const gates = await this.#o.gates(held, starter);
    const epoch = (state.record?.epoch ?? 0) + 1;
    const withoutBack = overrides.some(({ gate }) => gate === 'reverse-path') || !held.reverse.wanted;
    const context = this.#context(held, from, {
      epoch,
      overrides,
      starter,
      wayBack: !withoutBack,
      maxWritePauseMs: request.maxWritePauseMs ?? run.settings.cutover.maxWritePauseMs,
    });
    const report = { epoch, to: context.to, gates };
    if (request.dryRun) {
      const steps = await dryRun(cutoverSteps(context), { clock: run.clock, signal: this.#o.life });
      const shown = from === 'blue' ? control.rehearsed(steps) : { steps };
      return { outcome: 'dry-run', writePauseMs: null, error: null, ...shown, ...report };
    }
    const closed = closedGates(gates, overrides);
    if (closed.length > 0) throw gateError(closed);
    return this.exclusively(async () => {
      try {
        if (from === 'blue') await verifications.narrow(held, this.#o.working());
        const cancelled = await desk.begin(context.to, request, waited);
        for (const { gate, reason } of overrides) await state.note('gate.override', { gate, reason });
        const attempt: Attempt = { from, wayBack: context.wayBack !== null };
        await state.remember({ attempt });
        await state.enter('cutting_over', { epoch });
        await state.note('cutover.begin', {
          epoch,
          from,
          to: context.to,
          maxWritePauseMs: context.settings.maxWritePauseMs,
          request: desk.request?.id ?? null,
          by: starter,
          gates,
        });
        const outcome = await cutover(context, AbortSignal.any([this.#o.life, cancelled]));
        await this.#settledSoon(held, from, outcome);
        return reportOf(outcome, report);
      } finally {
        await desk.leave();
      }
    });
  }

  /** Ends what was interrupted, by what the fence record of the side that stops says. */
  async recover(held: Held): Promise<CutoverReport> {
    const { run } = this.#o;
    const { state } = held;
    return this.exclusively(async () => {
      const { from, wayBack } = (state.record?.detail['attempt'] ?? {
        from: 'blue',
        wayBack: false,
      }) as Attempt;
      const epoch = state.record?.epoch ?? 0;
      const context = this.#context(held, from, {
        epoch,
        overrides: [],
        starter: null,
        wayBack,
        maxWritePauseMs: run.settings.cutover.maxWritePauseMs,
      });
      await state.note('cutover.recover', { epoch, from });
      const outcome = await recover(context);
      await this.#settled(held, from, outcome);
      return reportOf(outcome, { epoch, to: context.to, gates: [] });
    });
  }

  #context(
    held: Held,
    from: Side,
    options: Pick<CutoverContext, 'epoch' | 'overrides'> & {
      readonly starter: string | null;
      readonly wayBack: boolean;
      readonly maxWritePauseMs: number;
    },
  ): CutoverContext {
    const { run, verifications, life } = this.#o;
    const { forward, reverse } = held;
    const label = `${this.#o.holder}:position:${options.epoch}`;
    const common = { run, label, life };
    const wayBack =
      from === 'blue'
        ? wayBackOf({
            ...common,
            prepare: () => reverse.prepare(),
            way: () => reverse.way,
            oldest: () => reverse.oldestTransactionSeconds(),
          })
        : wayBackOf({
            ...common,
            prepare: async () => {
              await forward.prepare();
              return forward;
            },
            // Its log is read by the watch until here.
            beforeOpen: (signal) =>
              reverse.stopWatch(
                signal,
                options.overrides.some(({ gate }) => gate === 'foreign-writes'),
              ),
            way: () => forward,
            oldest: async () => (await forward.source.health()).oldestTransactionSeconds,
          });
    return switchContext(run, held, {
      ...options,
      from,
      wayBack: options.wayBack ? wayBack : null,
      gates: () => this.#o.gates(held, options.starter),
      beforeHold: (signal) => verifications.lastLook(held, signal),
      requireEvidence: (signal) =>
        verifications.requireEvidence(held, { overrides: options.overrides, signal }),
    });
  }

  /** When nothing of an attempt is left to be stored; it may have failed. */
  async settled(): Promise<void> {
    await this.#settling?.catch(() => undefined);
  }

  /**
   * The side that remembers may be the one that broke the attempt off: who asked is told what is decided without waiting for it.
   * Where it does remember, the way that fits carries when this resolves, unless that takes long.
   */
  async #settledSoon(held: Held, from: Side, outcome: CutoverOutcome): Promise<void> {
    const { log } = this.#o.run;
    const stored = this.#remembered(held, from, outcome);
    const carries = stored.then(() => this.#carriedOn(held, from, outcome));
    this.#settling = carries.finally(() => (this.#settling = null));
    this.#settling.catch(() => undefined);
    const told = { outcome: outcome.outcome };
    if (!(await this.#within(STORE_MS, stored))) {
      log.warn(told, 'green does not answer; what the attempt came to is stored as soon as it does');
    } else if (!(await this.#within(CARRY_MS, carries))) {
      log.warn(told, 'what the attempt came to is stored; the side that follows is not carried to yet');
    } else return;
    carries.catch((late: unknown) =>
      log.error(
        { code: asVerdigrisError(late).code },
        'what an attempt came to was not stored, or nothing carries since: the next start finds it',
      ),
    );
  }

  /** Whether it is done by then. @throws what the work throws */
  async #within(ms: number, work: Promise<void>): Promise<boolean> {
    using limit = deadline(this.#o.run.clock, ms, 'It is not waited for any longer.');
    try {
      await bounded(work, limit.signal);
      return true;
    } catch (error) {
      if (limit.signal.aborted) return false;
      throw error;
    }
  }

  async #settled(held: Held, from: Side, outcome: CutoverOutcome): Promise<void> {
    await this.#remembered(held, from, outcome);
    await this.#carriedOn(held, from, outcome);
  }

  /** Stores what it came to. */
  async #remembered(held: Held, from: Side, outcome: CutoverOutcome): Promise<void> {
    const { state } = held;
    const serves = outcome.outcome === 'switched' ? other(from) : from;
    await this.#stored(() =>
      state.note('cutover.end', {
        from,
        outcome: outcome.outcome,
        writePauseMs: outcome.writePauseMs,
        error: outcome.error === null ? null : { code: outcome.error.code, message: outcome.error.message },
      }),
    );
    await this.#stored(() =>
      outcome.outcome === 'undetermined'
        ? state.enter('undetermined')
        : state.enter(STEADY[serves], { activeSide: serves }),
    );
    await this.#o.desk.end(outcome);
  }

  /** Lets the way carry that fits what is stored. */
  async #carriedOn(held: Held, from: Side, { outcome }: CutoverOutcome): Promise<void> {
    if (outcome === 'undetermined') return;
    const serves = outcome === 'switched' ? other(from) : from;
    if (serves === 'blue' && from === 'green')
      await this.#o.verifications.restart(held, 'clients wrote on green; it has to be verified again');
    if (this.#o.started()) await this.resume(held);
  }

  /** Lets the way carry that the phase asks for. */
  async resume(held: Held): Promise<void> {
    const { carry, verifications, working } = this.#o;
    const { state, forward, reverse } = held;
    if (state.phase === 'reversing') {
      const attempt = state.record?.detail['attempt'] as Attempt | undefined;
      // A switch without a way back leaves nothing that could carry; a rollback that was undone had one, or it would not have begun.
      const follows = attempt !== undefined && (attempt.from === 'green' || attempt.wayBack);
      await carry(held, follows ? await reverse.attach() : null);
      // Clients write there now.
      await this.#tolerant("the watch of green's log could not be put away", () => held.foreign?.retire());
      await this.#tolerant("blue's log is not watched", () => reverse.startWatch(this.#o.life));
      return;
    }
    if (!forward.carries) await forward.sink.prepare(forward.targets);
    await carry(held, forward);
    await this.#tolerant('what was found on blue stays open', () => reverse.settleWatch());
    held.foreign?.start(working());
    verifications.background(held, working());
    // Nobody reads green's log while blue serves.
    await this.#tolerant('the way back could not be put away, green keeps its log', () => reverse.discard());
  }

  /** The side that remembers may be the one that broke the attempt off: it is told as soon as it answers again. */
  #stored(act: () => Promise<unknown>): Promise<unknown> {
    const { life, run } = this.#o;
    return persist(act, {
      clock: run.clock,
      signal: life,
      hopeless: ({ directive }) => directive !== 'retry',
    });
  }

  /** Who serves is decided: what is only put in order behind that is tried again at the next start. */
  async #tolerant(what: string, act: () => Promise<void> | undefined): Promise<void> {
    try {
      await act();
    } catch (error) {
      const { code, message } = asVerdigrisError(error);
      this.#o.run.log.warn({ code }, `${what}: ${message}`);
    }
  }
}
