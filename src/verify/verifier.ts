import type { Clock } from '../core/clock.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import { showTable, type Cell } from '../core/table.ts';
import type {
  StoredDifference,
  StoredVerification,
  TableProgress,
  VerificationRound,
  VerificationStore,
  VerifyMode,
} from '../core/verification.ts';
import type { Changes } from './changes.ts';
import { confirm, differing } from './confirm.ts';
import type { Report, TableReport, VerifyProgress } from './report.ts';
import type { Sides } from './rows.ts';
import { Ahead } from './ahead.ts';
import { digests, methodOf } from './digests.ts';
import { scan } from './scan.ts';
import { subjectColumns, type Subject } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

export interface VerifierOptions {
  readonly sides: Sides;
  readonly tables: readonly VerifyTable[];
  readonly changes: Changes;
  /** Resolves when everything that was committed on blue before the call is applied on green. */
  readonly settle: (signal: AbortSignal) => Promise<void>;
  /** Resolves when the load of both sides allows the next range. */
  readonly permit: (signal: AbortSignal) => Promise<void>;
  readonly store: VerificationStore;
  readonly run: { readonly id: string; readonly term: number };
  readonly settings: {
    readonly chunkRows: number;
    /** Ranges that the servers may digest at the same time. */
    readonly workers: number;
    readonly maxRowsPerSecond: number | null;
    readonly recheckAttempts: number;
    readonly recheckDelayMs: number;
  };
  readonly clock: Clock;
  readonly failpoints: Failpoints;
}

export interface RoundOptions {
  readonly mode: VerifyMode;
  readonly tables?: readonly string[];
  readonly maxRowsPerSecond?: number | null;
  /** Does not wait for keys that change while they are compared; whoever goes on from this round compares them. */
  readonly leaveMoving?: boolean;
}

export interface RoundResult extends Report {
  /** It went on with a round that another process had begun: what changed meanwhile is not known. */
  readonly resumed: boolean;
}

/** Sample mode reads one range of this many; which one moves on with every round. */
const SAMPLE_EVERY = 10;
/** Differences that are kept by key; the others are only counted. */
const MOST_KEPT = 10_000;
/** Suspects of a `recent` round that are looked at together. */
const RECENT_BATCH = 2_000;

/**
 * Compares both sides while they are written. The mapping that applied the rows says what green should hold. One round at a
 * time; every step is stored beside green's data, and a round that did not end goes on where it was.
 */
export class Verifier {
  readonly #o: VerifierOptions;
  /** Everything was found equal, and of what changed after this all is noted; null: no clean round of this process. */
  #clean: number | null = null;
  /** Start of the last whole round of this process, clean or not. */
  #began: number | null = null;
  /** Rows of the tables as of that round. */
  readonly #sizes = new Map<string, number>();

  constructor(options: VerifierOptions) {
    this.#o = options;
  }

  /** What changed since the last clean round is known. */
  get covered(): boolean {
    const { changes, tables } = this.#o;
    const seen = this.#clean;
    return seen !== null && tables.every(({ target }) => changes.since(target.relation, seen) !== null);
  }

  /**
   * The stored round where it did not end.
   * @throws what the store throws
   */
  async unfinished(): Promise<RoundOptions | null> {
    const stored = await this.#o.store.load(this.#o.run.id);
    return stored?.round.state === 'running'
      ? { mode: stored.round.mode, tables: stored.round.tables }
      : null;
  }

  /** The result of the stored round, or null when there is none or it has not ended. */
  async last(): Promise<(Report & { readonly endedAt: string }) | null> {
    const stored = await this.#o.store.load(this.#o.run.id);
    if (stored === null || stored.round.endedAt === null) return null;
    return {
      ...this.#report(stored.round, stored.tables, stored.differences),
      endedAt: stored.round.endedAt,
    };
  }

  /** @throws VerdigrisError USAGE for an unknown table; VERIFY_FAILED; whatever the databases threw: the round is kept */
  async run(
    options: RoundOptions,
    signal: AbortSignal,
    onProgress: (progress: VerifyProgress) => void = () => undefined,
  ): Promise<RoundResult> {
    const { changes, store, clock } = this.#o;
    const selected = this.#select(options.tables);
    changes.start();
    const began = changes.now;
    const round = await Round.open(this.#o, { mode: options.mode, tables: selected.map(nameOf) });
    const notes: string[] = [];
    const since = options.mode === 'recent' ? this.#clean : null;
    const started = clock.monotonic();
    const spent = (): number => round.before.spentMs + clock.monotonic() - started;
    const tell = (): void => onProgress(round.total());
    try {
      for (const table of selected) {
        const changed = since === null ? null : changes.since(table.target.relation, since);
        if (changed !== null && subjectColumns(table).length > 0) {
          round.byKeys.add(nameOf(table));
          await this.#recent(table, changed, {
            round,
            signal,
            tell,
            leaveMoving: options.leaveMoving ?? false,
          });
          continue;
        }
        if (options.mode === 'recent')
          notes.push(`${nameOf(table)}: compared whole, what changed is not known by key`);
        const pace =
          options.maxRowsPerSecond === undefined
            ? this.#o.settings.maxRowsPerSecond
            : options.maxRowsPerSecond;
        await this.#table(table, { round, signal, tell, pace });
      }
    } catch (error) {
      await store
        .finish(this.#o.run.id, this.#o.run.term, { ...round.before, spentMs: spent() })
        .catch(() => undefined);
      throw error;
    }
    const ended = await round.end(spent(), new Date(clock.now()).toISOString());
    const report = this.#report(ended, round.tables, round.differences, notes, round.byKeys);
    const whole = selected.length === this.#o.tables.length && options.mode !== 'sample' && !round.resumed;
    if (whole) this.#began = began;
    for (const { table, rows, method } of report.tables) if (method !== 'keys') this.#sizes.set(table, rows);
    if (report.ok && whole) this.#cleanSince(began);
    return { ...report, resumed: round.resumed };
  }

  /**
   * Under the fence, when green has everything: compares each row that changed since the last clean round. Costs by the number
   * of changes, not by the size of the tables.
   * @throws VerdigrisError CUTOVER_GATE when it is not known which rows those are
   */
  async recheck(
    maxKeys: number,
    signal: AbortSignal,
  ): Promise<{ readonly keys: number; readonly differences: number }> {
    const since = this.#clean;
    // Without a clean round there is nothing to start from; the gate `verified` was overridden.
    if (since === null) return { keys: 0, differences: 0 };
    const { changes, tables, sides, settings } = this.#o;
    const work = tables.map((table) => ({ table, changed: changes.since(table.target.relation, since) }));
    const unknown = work.filter(({ changed }) => changed === null).map(({ table }) => nameOf(table));
    if (unknown.length > 0) {
      throw new VerdigrisError(
        'CUTOVER_GATE',
        `It is not known by key what changed since the last clean verification in ${unknown.join(', ')}.`,
        {
          remedy: 'Run `verdigris verify`, then try again.',
        },
      );
    }
    // Rows that cannot be asked for by key cost a read of the whole table.
    const cost = ({ table, changed }: (typeof work)[number]): number => {
      const size = changed?.size ?? 0;
      return size === 0 || subjectColumns(table).length > 0
        ? size
        : Math.max(size, this.#sizes.get(nameOf(table)) ?? size);
    };
    const keys = work.reduce((sum, one) => sum + cost(one), 0);
    if (keys > maxKeys) return { keys, differences: 0 };
    const touched = work
      .map(({ table, changed }) => ({ table, subjects: subjectsOf(changed ?? new Map()) }))
      .filter(({ subjects }) => subjects.size > 0);
    await using looks = new Ahead(touched, settings.workers, ({ table, subjects }) =>
      differing(sides, table, subjects, signal),
    );
    let differences = 0;
    for (const _ of touched) differences += (await looks.next()).size;
    return { keys, differences };
  }

  /** Looks again at subjects that were repaired and stores what is left. */
  async again(
    subjects: ReadonlyMap<VerifyTable, ReadonlyMap<string, Subject>>,
    keep: (found: StoredDifference) => boolean,
    signal: AbortSignal,
  ): Promise<Report | null> {
    const { store, run } = this.#o;
    const stored = await store.load(run.id);
    if (stored === null) return null;
    const left = stored.differences.filter(keep);
    for (const [table, some] of subjects)
      left.push(...(await confirm(this.#confirmOptions(), table, some, signal)).differences);
    const counted = stored.tables.map((table) => ({
      ...table,
      differences:
        table.differences > MOST_KEPT
          ? table.differences
          : left.filter((one) => one.table === table.table).length,
    }));
    for (const progress of counted) await store.advance(run.id, run.term, progress, []);
    const round = {
      ...stored.round,
      state: counted.every((one) => one.differences === 0) ? ('pass' as const) : ('fail' as const),
    };
    await store.finish(run.id, run.term, round, left);
    // What was found is gone, and everything else was equal in that round.
    if (round.state === 'pass' && this.#began !== null) this.#cleanSince(this.#began);
    return this.#report(round, counted, left);
  }

  /** Rows may have changed that the stream did not bring: the next round looks at everything. */
  distrust(): void {
    this.#clean = null;
    this.#began = null;
  }

  #cleanSince(began: number): void {
    this.#clean = began;
    this.#o.changes.forget(began);
  }

  get tables(): readonly VerifyTable[] {
    return this.#o.tables;
  }

  #select(names: readonly string[] | undefined): readonly VerifyTable[] {
    if (names === undefined || names.length === 0) return this.#o.tables;
    const known = new Map(this.#o.tables.map((table) => [nameOf(table), table]));
    return names.map((name) => {
      const table = known.get(name);
      if (table === undefined) {
        throw new VerdigrisError('USAGE', `${name} is not a mapped table of green.`, {
          remedy: `Mapped tables: ${[...known.keys()].join(', ')}.`,
        });
      }
      return table;
    });
  }

  async #table(
    table: VerifyTable,
    {
      round,
      signal,
      tell,
      pace,
    }: { round: Round; signal: AbortSignal; tell: () => void; pace: number | null },
  ): Promise<void> {
    const { clock, permit, sides, settings, failpoints } = this.#o;
    const progress = round.of(nameOf(table));
    if (progress.done) return;
    const boundaries = progress.boundaries ?? (await this.#boundaries(table));
    const edges: readonly (Cell | null)[] = [null, ...boundaries, null];
    const count = edges.length - 1;
    const skipped = (ordinal: number): boolean =>
      round.before.mode === 'sample' &&
      ordinal % SAMPLE_EVERY !== round.before.number % Math.min(SAMPLE_EVERY, count);
    const rangeOf = (ordinal: number) => ({
      lower: edges[ordinal] as Cell | null,
      upper: edges[ordinal + 1] as Cell | null,
    });
    const wanted = Array.from({ length: count }, (_, ordinal) => ordinal).filter(
      (ordinal) => ordinal >= progress.next && !skipped(ordinal),
    );
    await using ahead = new Ahead(
      wanted,
      // At a given rate one range follows the other.
      pace === null && methodOf(table) === 'server' ? settings.workers : 1,
      async (ordinal) => {
        await permit(signal);
        return digests(sides, table, rangeOf(ordinal));
      },
    );
    for (let ordinal = progress.next; ordinal < count; ordinal++) {
      signal.throwIfAborted();
      const last = ordinal === count - 1;
      const step = { boundaries, next: ordinal + 1, done: last };
      if (skipped(ordinal)) {
        if (last) await round.advance(nameOf(table), { ...step, rows: 0, unsettled: 0 }, []);
        continue;
      }
      const started = clock.monotonic();
      const digested = await ahead.next();
      const { rows, suspects, capped } = await scan(sides, table, rangeOf(ordinal), { signal, digested });
      await failpoints.hit('verify.scanned');
      const { differences, unsettled } = await confirm(this.#confirmOptions(), table, suspects, signal);
      if (capped && differences.length === 0) {
        throw new VerdigrisError(
          'VERIFY_FAILED',
          `More than ${suspects.size} rows of ${nameOf(table)} were on their way at the same time.`,
          {
            remedy: 'Run it again at a quieter time: it goes on where it was.',
          },
        );
      }
      await failpoints.hit('verify.before-store');
      await round.advance(nameOf(table), { ...step, rows, unsettled }, differences);
      await failpoints.hit('verify.stored');
      tell();
      const rest = pace === null ? 0 : (rows * 1000) / pace - (clock.monotonic() - started);
      if (rest > 0) await clock.sleep(rest, signal);
    }
  }

  /** Only rows that changed since the last clean round. */
  async #recent(
    table: VerifyTable,
    changed: ReadonlyMap<string, readonly Cell[]>,
    {
      round,
      signal,
      tell,
      leaveMoving,
    }: { round: Round; signal: AbortSignal; tell: () => void; leaveMoving: boolean },
  ): Promise<void> {
    const all = [...subjectsOf(changed)];
    for (let from = 0; from === 0 || from < all.length; from += RECENT_BATCH) {
      await this.#o.permit(signal);
      const some = new Map(all.slice(from, from + RECENT_BATCH));
      const { differences, unsettled } = await confirm(
        { ...this.#confirmOptions(), leaveMoving },
        table,
        some,
        signal,
      );
      const done = from + RECENT_BATCH >= all.length;
      await round.advance(
        nameOf(table),
        { boundaries: [], next: 0, done, rows: some.size, unsettled },
        differences,
      );
      tell();
    }
  }

  async #boundaries(table: VerifyTable): Promise<readonly Cell[]> {
    const owner = table.plans[0]?.from;
    if (!table.sameRanges || owner === undefined || owner.key.length === 0) return [];
    return this.#o.sides.blue.split(owner, this.#o.settings.chunkRows);
  }

  #confirmOptions() {
    const { sides, changes, settle, clock, settings } = this.#o;
    changes.start();
    return {
      sides,
      changes,
      settle,
      clock,
      attempts: settings.recheckAttempts,
      delayMs: settings.recheckDelayMs,
    };
  }

  #report(
    round: VerificationRound,
    progress: readonly TableProgress[],
    mismatches: readonly StoredDifference[],
    notes: readonly string[] = [],
    byKeys: ReadonlySet<string> = new Set(),
  ): Report {
    const known = new Map(progress.map((table) => [table.table, table]));
    const tables = this.#o.tables
      .filter((table) => round.tables.includes(nameOf(table)))
      .map((table): TableReport => {
        const { rows = 0, differences = 0, unsettled = 0 } = known.get(nameOf(table)) ?? {};
        const method = byKeys.has(nameOf(table)) ? 'keys' : methodOf(table);
        return { table: nameOf(table), rows, differences, unsettled, method, notCompared: table.notCompared };
      });
    return {
      ok: tables.every(({ differences }) => differences === 0),
      mode: round.mode,
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
      seconds: round.spentMs / 1000,
      tables,
      mismatches,
      notes,
    };
  }
}

/** The round that is being worked on, and what is stored of it. */
class Round {
  readonly #o: Pick<VerifierOptions, 'store' | 'run'>;
  readonly before: VerificationRound;
  readonly resumed: boolean;
  readonly byKeys = new Set<string>();
  readonly differences: StoredDifference[];
  /** When differences of the round before were first seen. */
  readonly #seen: ReadonlyMap<string, string>;
  readonly #tables: Map<string, TableProgress>;

  /** `stored`: what was stored last, of this round or of the one before. */
  constructor(
    o: Pick<VerifierOptions, 'store' | 'run'>,
    round: VerificationRound,
    stored: StoredVerification | null,
  ) {
    this.#o = o;
    this.before = round;
    this.resumed = stored !== null && stored.round.number === round.number;
    this.differences = this.resumed ? [...(stored?.differences ?? [])] : [];
    this.#tables = new Map(this.resumed ? stored?.tables.map((table) => [table.table, table]) : []);
    this.#seen = new Map(stored?.differences.map((found) => [identity(found), found.firstSeen]));
  }

  /** Goes on with the stored round where it is the same and has not ended. */
  static async open(
    o: Pick<VerifierOptions, 'store' | 'run'>,
    wanted: Pick<VerificationRound, 'mode' | 'tables'>,
  ): Promise<Round> {
    await o.store.prepare();
    const stored = await o.store.load(o.run.id);
    const same =
      stored?.round.state === 'running' &&
      stored.round.mode === wanted.mode &&
      [...stored.round.tables].sort().join('\n') === [...wanted.tables].sort().join('\n');
    if (stored !== null && same) return new Round(o, stored.round, stored);
    const number = (stored?.round.number ?? 0) + 1;
    const round: VerificationRound = { number, ...wanted, state: 'running', spentMs: 0, endedAt: null };
    await o.store.begin(o.run.id, o.run.term, round);
    return new Round(o, round, stored);
  }

  get tables(): readonly TableProgress[] {
    return [...this.#tables.values()];
  }

  of(table: string): TableProgress {
    return (
      this.#tables.get(table) ?? {
        table,
        boundaries: null,
        next: 0,
        done: false,
        rows: 0,
        differences: 0,
        unsettled: 0,
      }
    );
  }

  /** Durable when it resolves. */
  async advance(
    table: string,
    step: Pick<TableProgress, 'boundaries' | 'next' | 'done' | 'rows' | 'unsettled'>,
    found: readonly StoredDifference[],
  ): Promise<void> {
    const before = this.of(table);
    const next = {
      ...step,
      table,
      rows: before.rows + step.rows,
      differences: before.differences + found.length,
      unsettled: before.unsettled + step.unsettled,
    };
    const kept = found
      .slice(0, Math.max(0, MOST_KEPT - this.differences.length))
      .map((one) => ({ ...one, firstSeen: this.#seen.get(identity(one)) ?? one.firstSeen }));
    await this.#o.store.advance(this.#o.run.id, this.#o.run.term, next, kept);
    this.#tables.set(table, next);
    this.differences.push(...kept);
  }

  total(): VerifyProgress & { readonly table: string } {
    const tables = this.tables;
    return {
      table: tables.at(-1)?.table ?? '',
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
      differences: tables.reduce((sum, { differences }) => sum + differences, 0),
    };
  }

  async end(spentMs: number, endedAt: string): Promise<VerificationRound> {
    const state = this.tables.every(({ differences }) => differences === 0) ? 'pass' : 'fail';
    const ended: VerificationRound = { ...this.before, state, spentMs, endedAt };
    await this.#o.store.finish(this.#o.run.id, this.#o.run.term, ended);
    return ended;
  }
}

const identity = ({ table, kind, key }: StoredDifference): string => JSON.stringify([table, kind, key]);

export const nameOf = (table: VerifyTable): string => showTable(table.target.relation.table);

const subjectsOf = (changed: ReadonlyMap<string, readonly Cell[]>): Map<string, Subject> =>
  new Map([...changed].map(([id, key]) => [id, { id, key }]));
