import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import { showTable } from '../core/table.ts';
import type { RoundOptions } from '../verify/verifier.ts';
import { planRepair, unrepairable } from '../verify/repair.ts';
import type { RepairReport, VerifyReport, VerifyRequest } from './api.ts';
import type { Held } from './hold.ts';
import type { Settings } from './settings.ts';
import type { Verification } from './status-view.ts';

/** After an error of a round that nobody waits for. */
const RETRY_MS = 5_000;
/** Between two looks at what a clean result rests on. */
const EVIDENCE_EVERY_MS = 5_000;
const UNCOVERED = 'what changed meanwhile is not known; it has to be verified again';
const UNGUARDED =
  "green's guards were switched: there may be writes that are not ours; it has to be verified again";
const FOREIGN = 'there were writes on green that are not ours; it has to be verified again';
const REWRITTEN =
  'a mapped table of blue was written anew: values may have changed without a row in the log; it has to be verified again';

/** What a clean result rests on besides the rows that were compared. */
interface Evidence {
  /** State of green's guards. */
  readonly guards: string | null;
  /** State of blue's tables as they are stored. */
  readonly rewrites: string;
  /** State of what is known of foreign writes on green; null: its log is not read. */
  readonly foreign: string | null;
}

/** Why a result that was made under `then` counts no more, or null. */
const broken = (then: Evidence, now: Evidence): string | null => {
  if (then.guards !== now.guards) return UNGUARDED;
  if (then.rewrites !== now.rewrites) return REWRITTEN;
  // While the log is not read the gate `foreign-writes` is shut; when it is read again, a gap shows.
  const known = then.foreign !== null && now.foreign !== null;
  return known && then.foreign !== now.foreign ? FOREIGN : null;
};
/** How long green's log may take to be read to its end: while nobody waits, before a decision, and while writers wait. */
const REACH_MS = { round: 60_000, gates: 10_000, fence: 5_000 } as const;
/** Rows that are taken off green and read again together. */
const REPAIR_BATCH = 500;
/** Looks at recent changes before writers are held, and how few rows are few enough. */
const MOST_LOOKS = 4;
const FEW_ROWS = 1_000;
const STILL_SHRINKING = 0.7;

/** Runs one verification at a time, by itself or when asked, and remembers the last result with the run. */
export class Verifications {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #settings: Settings['verify'];
  #now: Verification = { state: 'never', rows: 0, differences: 0, cleanAt: null, detail: null };
  #running: Promise<unknown> | null = null;
  /** As of the last clean round. */
  #evidence: Evidence | null = null;
  /** As of the start of the last whole round, clean or not, with the newest foreign write that it could see. */
  #base: { readonly evidence: Evidence; readonly seen: number | null } | null = null;
  #evidenceAt = Number.NEGATIVE_INFINITY;
  #background: Promise<void> | null = null;
  #lastLook: { readonly endedAt: number; readonly tookMs: number } | null = null;

  constructor(options: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly settings: Settings['verify'];
  }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#settings = options.settings;
  }

  get now(): Verification {
    return this.#now;
  }

  /** What an earlier process stored. What changed between then and now is not known, so its clean rounds count no more. */
  restore(stored: unknown): void {
    if (typeof stored !== 'object' || stored === null) return;
    const { state, rows, differences, cleanAt } = stored as Verification;
    const detail = cleanAt === null ? null : 'clean before the last restart; it has to be verified again';
    this.#now = { state: state === 'running' ? 'never' : state, rows, differences, cleanAt: null, detail };
  }

  /** @throws VerdigrisError CUTOVER_PHASE while another one runs */
  run(held: Held, options: VerifyRequest, signal: AbortSignal): Promise<VerifyReport> {
    return this.#exclusively(() => this.#verify(held, options, signal));
  }

  /**
   * Compares what changed since the last clean round, again and again: each look has only what changed during the one before, so
   * that little is left to compare while writers wait.
   * @throws VerdigrisError CUTOVER_GATE when something differs
   */
  async narrow(held: Held, signal: AbortSignal): Promise<void> {
    // Never clean: the gate was overridden, and there is nothing to start from.
    if (this.#now.cleanAt === null) return;
    let before = Number.POSITIVE_INFINITY;
    for (let look = 0; look < MOST_LOOKS; look++) {
      const rows = await this.#lookAtRecent(held, signal);
      // A table without a key is read whole each time: more looks would not make that less.
      if (rows <= FEW_ROWS || rows > before * STILL_SHRINKING) return;
      before = rows;
    }
  }

  /**
   * One more look, when the switch is prepared: only where it takes less time than has passed since the last one, or it would
   * leave no fewer rows.
   * @throws VerdigrisError CUTOVER_GATE when something differs
   */
  async lastLook(held: Held, signal: AbortSignal): Promise<void> {
    const last = this.#lastLook;
    if (this.#now.cleanAt === null || last === null) return;
    if (this.#clock.monotonic() - last.endedAt < last.tookMs) return;
    await this.#lookAtRecent(held, signal);
  }

  /** Rows that were compared. */
  async #lookAtRecent(held: Held, signal: AbortSignal): Promise<number> {
    while (this.#running !== null) await this.#running.catch(() => undefined);
    const started = this.#clock.monotonic();
    const report = await this.#exclusively(() =>
      this.#verify(held, { mode: 'recent', leaveMoving: true }, signal),
    );
    const endedAt = this.#clock.monotonic();
    this.#lastLook = { endedAt, tookMs: endedAt - started };
    if (report.ok) return report.rows;
    throw new VerdigrisError(
      'CUTOVER_GATE',
      `${report.mismatches.length} rows differ that changed since the last clean verification; nothing was changed.`,
      { remedy: 'See `verdigris verify show`, then `verdigris verify repair`.' },
    );
  }

  /** What runs without being asked: the round that was interrupted, the one after the copy, then one after every rest. */
  background(held: Held, signal: AbortSignal): void {
    this.#background ??= this.#rounds(held, signal).catch((error: unknown) => {
      if (!signal.aborted)
        this.#log.error(
          { code: asVerdigrisError(error).code },
          `verification ended: ${asVerdigrisError(error).message}`,
        );
    });
  }

  async last({ verifier }: Held): Promise<(VerifyReport & { readonly endedAt: string }) | null> {
    return verifier.last();
  }

  /** @throws VerdigrisError CUTOVER_PHASE while a verification runs; VERIFY_FAILED when there is no result */
  repair(held: Held, tables: readonly string[] | undefined, signal: AbortSignal): Promise<RepairReport> {
    return this.#exclusively(() => this.#repair(held, tables, signal));
  }

  /** Takes a clean result back when rows may have changed on either side that the stream did not bring. */
  async checkEvidence(held: Held, options: { readonly fresh: boolean }): Promise<void> {
    if (options.fresh) await reach(held, REACH_MS.gates).catch(() => undefined);
    const due = options.fresh || this.#clock.monotonic() - this.#evidenceAt > EVIDENCE_EVERY_MS;
    if (this.#now.cleanAt === null || this.#evidence === null || !due) return;
    const now = await evidenceOf(held);
    this.#evidenceAt = this.#clock.monotonic();
    const why = this.#evidence === null ? null : broken(this.#evidence, now);
    if (why === null || this.#now.cleanAt === null) return;
    this.#evidence = null;
    held.verifier.distrust();
    this.#now = { ...this.#now, cleanAt: null, detail: why };
    this.#log.warn({}, why);
    if (why !== FOREIGN) await held.state.note(why === UNGUARDED ? 'green.unguarded' : 'blue.rewritten', {});
    await this.#remember(held.state);
  }

  /**
   * Under the fence: what the last clean round rests on still stands, and nobody else has written to green.
   * @throws VerdigrisError CUTOVER_GATE
   */
  async requireEvidence(
    held: Held,
    { overrides, signal }: { overrides: readonly { readonly gate: string }[]; signal: AbortSignal },
  ): Promise<void> {
    if (!overrides.some(({ gate }) => gate === 'foreign-writes')) {
      await reach(held, REACH_MS.fence, signal);
      const count = held.foreign?.facts.count ?? 0;
      if (count > 0) {
        throw new VerdigrisError('CUTOVER_GATE', `${count} transactions on green are not ours.`, {
          remedy: 'See the gate foreign-writes, then run `verdigris verify`.',
        });
      }
    }
    if (this.#evidence === null) return;
    const why = broken(this.#evidence, await evidenceOf(held));
    if (why !== null) throw new VerdigrisError('CUTOVER_GATE', `Since the last clean verification ${why}.`);
  }

  /** Green was written by others since: what was found before says nothing any more, and the rounds begin anew. */
  async restart(held: Held, why: string): Promise<void> {
    await this.settled();
    this.#background = null;
    this.#evidence = null;
    held.verifier.distrust();
    this.#now = { state: 'never', rows: 0, differences: 0, cleanAt: null, detail: why };
    await this.#remember(held.state);
  }

  async settled(): Promise<void> {
    await this.#background;
    await this.#running?.catch(() => undefined);
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running !== null) {
      const busy = new VerdigrisError('CUTOVER_PHASE', 'A verification is running already.', {
        remedy: 'Wait until `verdigris status` shows its result.',
      });
      return Promise.reject(busy);
    }
    const running = work().finally(() => {
      this.#running = null;
    });
    this.#running = running;
    return running;
  }

  async #rounds(held: Held, signal: AbortSignal): Promise<void> {
    const { afterCopy, continuous } = this.#settings;
    let repeated = false;
    let next: VerifyRequest | null = await held.verifier.unfinished();
    if (next === null && afterCopy === 'full') next = { mode: 'full' };
    for (;;) {
      while (next !== null) {
        const again = await this.#attempt(held, next, signal);
        // A round that went on after a restart does not know what changed meanwhile: one more, but not for ever.
        const more: boolean =
          again === null && afterCopy === 'full' && this.#now.state === 'pass' && this.#now.cleanAt === null;
        next = again ?? (more && !repeated ? { mode: 'full' } : null);
        repeated ||= more;
      }
      if (continuous === null) return;
      await this.#clock.sleep(continuous.everyMs, signal);
      next = { mode: 'full', maxRowsPerSecond: continuous.maxRowsPerSecond };
    }
  }

  /** Returns what has to be tried again. */
  async #attempt(held: Held, request: VerifyRequest, signal: AbortSignal): Promise<VerifyRequest | null> {
    while (this.#running !== null) await this.#running.catch(() => undefined);
    try {
      await this.run(held, request, signal);
      return null;
    } catch (raw) {
      signal.throwIfAborted();
      const error = asVerdigrisError(raw);
      this.#log.error({ code: error.code }, `verification failed: ${error.message}`);
      if (error.directive === 'fatal' || error.code === 'USAGE') return null;
      await this.#clock.sleep(RETRY_MS, signal);
      return request;
    }
  }

  async #verify(held: Held, options: RoundOptions, signal: AbortSignal): Promise<VerifyReport> {
    const { verifier, state } = held;
    const before = this.#now;
    this.#now = { ...before, state: 'running', rows: 0, detail: null };
    try {
      // What the log of green holds by now is what this round sees of it.
      const seen = await reach(held, REACH_MS.round, signal).catch(() => {
        signal.throwIfAborted();
        return null;
      });
      const evidence = await evidenceOf(held);
      // A round over what changed says nothing about rows that changed behind the stream.
      if (this.#evidence !== null && broken(this.#evidence, evidence) !== null) verifier.distrust();
      const { resumed, ...report } = await verifier.run(options, signal, ({ rows, table }) => {
        this.#now = { ...this.#now, rows, detail: table === '' ? null : table };
      });
      const whole = options.mode !== 'sample' && (options.tables ?? []).length === 0;
      const covered = verifier.covered;
      const why = broken(evidence, await evidenceOf(held));
      if (report.ok && whole && covered && why === null) this.#evidence = evidence;
      if (whole && !resumed) {
        // A round by keys has not looked at rows that only others have changed.
        this.#base = { evidence, seen: options.mode === 'full' ? seen : null };
        if (report.ok && this.#base.seen !== null) await held.foreign?.settle(this.#base.seen);
      }
      if (why !== null) verifier.distrust();
      this.#now = {
        state: report.ok ? 'pass' : 'fail',
        rows: report.rows,
        // A clean look at a part does not take back what a whole round found.
        differences: report.ok && !whole ? before.differences : report.mismatches.length,
        cleanAt: !report.ok
          ? null
          : !whole || !covered
            ? before.cleanAt
            : why === null
              ? this.#clock.now()
              : null,
        detail: !report.ok || !whole ? null : !covered ? UNCOVERED : why,
      };
      await this.#remember(state);
      const { ok, rows, mismatches, seconds } = report;
      await state.note('verify', {
        ok,
        rows,
        differences: mismatches.length,
        mode: options.mode,
        seconds,
        resumed,
      });
      return report;
    } catch (error) {
      this.#now = { ...before, state: 'error', detail: asVerdigrisError(error).message };
      throw error;
    }
  }

  async #repair(
    held: Held,
    names: readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<RepairReport> {
    const {
      verifier,
      state,
      forward: { pipeline },
    } = held;
    const last = await verifier.last();
    if (last === null)
      throw new VerdigrisError(
        'VERIFY_FAILED',
        'There is no result of a verification that could be repaired.',
        { remedy: 'Run `verdigris verify`.' },
      );
    const { tables } = verifier;
    const refused: { table: string; differences: number; reason: string }[] = [];
    const wanted = new Set<string>();
    for (const table of tables) {
      const name = showTable(table.target.relation.table);
      const differences = last.mismatches.filter((one) => one.table === name).length;
      if (differences === 0 || (names !== undefined && names.length > 0 && !names.includes(name))) continue;
      const reason = unrepairable(table, tables);
      if (reason === null) wanted.add(name);
      else refused.push({ table: name, differences, reason });
    }
    const chosen = last.mismatches.filter((one) => wanted.has(one.table));
    await state.note('verify.repair', { differences: chosen.length, refused: refused.length });
    let report: VerifyReport = last;
    for (let from = 0; from < chosen.length; from += REPAIR_BATCH) {
      const some = new Set(chosen.slice(from, from + REPAIR_BATCH).map(identity));
      const plan = planRepair(tables, chosen.slice(from, from + REPAIR_BATCH));
      await pipeline.repair(plan, signal);
      report = (await verifier.again(plan.subjects, (found) => !some.has(identity(found)), signal)) ?? report;
    }
    const left = new Set(report.mismatches.map(identity));
    const repaired = chosen.filter((one) => !left.has(identity(one))).length;
    if (chosen.length > 0) {
      // The rest was found equal by the round that found these: the result stands on what that round stood on.
      const base = this.#base;
      const why = base === null ? null : broken(base.evidence, await evidenceOf(held));
      const clean = report.ok && verifier.covered && base !== null && why === null;
      if (clean) {
        this.#evidence = base.evidence;
        if (base.seen !== null) await held.foreign?.settle(base.seen);
      }
      const cleanAt = clean ? this.#clock.now() : this.#now.cleanAt;
      this.#now = {
        ...this.#now,
        state: report.ok ? 'pass' : 'fail',
        differences: report.mismatches.length,
        cleanAt,
        detail: report.ok ? why : null,
      };
      await this.#remember(state);
    }
    await state.note('verify.repaired', { repaired, left: report.mismatches.length });
    return { repaired, refused, report };
  }

  async #remember(state: Held['state']): Promise<void> {
    await state.remember({ verify: this.#now });
  }
}

/** Newest foreign write on green once its log is read up to now; null where nobody can tell. */
async function reach({ foreign }: Held, timeoutMs: number, signal?: AbortSignal): Promise<number | null> {
  if (foreign === null) return null;
  const late = AbortSignal.timeout(timeoutMs);
  await foreign.ready(signal === undefined ? late : AbortSignal.any([late, signal]));
  return foreign.reach(timeoutMs, signal ?? late);
}

const evidenceOf = async ({ fences, rewrites, foreign }: Held): Promise<Evidence> => ({
  foreign: foreign?.evidence ?? null,
  guards: (await fences.green.evidence?.()) ?? null,
  rewrites: await rewrites(),
});

const identity = ({
  table,
  key,
}: {
  readonly table: string;
  readonly key: Readonly<Record<string, string | null>>;
}): string => JSON.stringify([table, key]);
