import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { tableId, type Relation } from '../../core/table.ts';
import { translate } from './errors.ts';
import { foldElements, takeElements, touchedParents, type TouchedParents } from './sink-elements.ts';
import { execute, type ProgramFailure } from './sink-execute.ts';
import { locate } from './sink-locate.ts';
import { lateSteps, lateWholeSteps } from './sink-late-unique.ts';
import { realPlace, type Layouts, type Place, type SinkLayout } from './sink-layout.ts';
import { isCopy, shadowSteps, stepsFor, type Work } from './sink-program.ts';
import { createShadow, flushShadow, shadowPlace } from './sink-shadow.ts';
import { housekeeping } from './sink-statements.ts';
import { BatchFailure, sqlState, type Outcome, type Statement, type Wire } from './sink-wire.ts';

/** What stands around the rows of a part. */
export interface Envelope {
  /** BEGIN and the guard, or nothing when the transaction is open. A division by zero in here means: fenced. */
  readonly open: readonly Statement[];
  /** Of this part, besides its rows. */
  readonly also: readonly Statement[];
  /** What follows the rows and ends with COMMIT, or nothing when the transaction stays open. */
  readonly close: readonly Statement[];
  /** For errors. */
  readonly context: Readonly<Record<string, unknown>>;
}

const SAVEPOINT = housekeeping('SAVEPOINT verdigris_part');
const RELEASE = housekeeping('RELEASE SAVEPOINT verdigris_part');

/** Unique and exclusion: what a folded group may violate although the original order did not. */
const REORDERED = new Set(['23505', '23P01']);

export interface ApplierOptions {
  readonly layouts: Layouts;
  /** Quoted name of our table beside a table of the sink: waiting parts of a merged one, elements of an array. */
  readonly storage: (layout: SinkLayout) => string;
  /** Foreign keys and triggers do not fire. */
  readonly replica: boolean;
  readonly onFallback: (tables: readonly string[]) => void;
}

/**
 * Writes runs inside a transaction: fast path first; on a unique or exclusion error back to where it began, and the tables
 * concerned are done on a shadow without constraints. One per connection.
 */
export class Applier {
  readonly #wire: Wire;
  readonly #options: ApplierOptions;
  /** Tables that are in the shadow since an earlier part of the open transaction. */
  #shadowed = new Map<string, { real: Place; shadow: Place }>();
  /** Tables with deferrable constraints that earlier parts of the open transaction wrote. */
  #unchecked = new Map<string, Place>();

  constructor(wire: Wire, options: ApplierOptions) {
    this.#wire = wire;
    this.#options = options;
  }

  /** The transaction was given up. */
  reset(): void {
    this.#shadowed = new Map();
    this.#unchecked = new Map();
  }

  /** The place of a table outside the fallback. */
  async place(run: Pick<RowRun, 'relation'>): Promise<Place> {
    const layout = await this.#options.layouts.of(this.#wire, run.relation);
    return realPlace(layout, this.#options.storage);
  }

  /**
   * Applies one part. After an error everything it did is rolled back: the whole transaction when `envelope.open` began it,
   * else to where the part began, and the same part can be tried again.
   * @returns the outcomes of `envelope.close`
   */
  async apply(runs: readonly RowRun[], envelope: Envelope): Promise<readonly Outcome[]> {
    let places: ReadonlyMap<string, Place>;
    try {
      places = await this.#places(runs);
    } catch (error) {
      throw error instanceof VerdigrisError ? error : translate(error, 'sink', envelope.context);
    }
    let shadows = this.#shadowed;
    for (;;) {
      const attempt = await this.#attempt(runs, places, shadows, envelope);
      if (!('error' in attempt)) {
        if (envelope.close.length > 0) this.reset();
        else this.#keep(shadows, places);
        return attempt.outcomes;
      }
      const further = await this.#recover(attempt, envelope, places, shadows);
      shadows = new Map([...shadows, ...further]);
      this.#options.onFallback([...further.keys()]);
    }
  }

  /** Of the tables that the runs touch, by id. */
  async #places(runs: readonly RowRun[]): Promise<ReadonlyMap<string, Place>> {
    const { layouts, storage } = this.#options;
    const relations = new Map<string, Relation>();
    for (const { relation } of runs) {
      for (const one of [relation, ...layouts.related(relation.table)]) {
        const id = tableId(one.table);
        if (!relations.has(id)) relations.set(id, one);
      }
    }
    const known = await layouts.all(this.#wire, [...relations.values()]);
    return new Map(known.map((layout) => [tableId(layout.table), realPlace(layout, storage)]));
  }

  async #attempt(
    runs: readonly RowRun[],
    places: ReadonlyMap<string, Place>,
    shadows: ReadonlyMap<string, { real: Place; shadow: Place }>,
    envelope: Envelope,
  ): Promise<{ outcomes: readonly Outcome[] } | ProgramFailure> {
    const ends = envelope.close.length > 0;
    // A group in one piece needs no savepoint: its error path begins a new transaction. Each one would cost a subtransaction id.
    const whole = ends && envelope.open.length > 0;
    const program: Work[] = [
      ...envelope.open.map((statement) => housekeeping(statement.text, statement.values)),
    ];
    if (!whole) program.push(SAVEPOINT);
    const begun = program.length;
    for (const [id, { real, shadow }] of shadows) {
      if (!this.#shadowed.has(id)) program.push(...createShadow(real, shadow));
    }
    const touched = this.#elements(runs, places, shadows);
    for (const one of touched)
      program.push(...takeElements(one, places.get(tableId(one.parent.layout.table)) as Place));
    for (const run of runs) {
      const id = tableId(run.relation.table);
      const shadow = shadows.get(id);
      program.push(
        ...(shadow === undefined
          ? stepsFor(places.get(id) as Place, run)
          : shadowSteps(shadow.real, shadow.shadow, run)),
      );
    }
    program.push(...touched.flatMap(foldElements));
    program.push(...envelope.also.map((statement) => housekeeping(statement.text, statement.values)));
    if (ends) {
      for (const { real, shadow } of shadows.values()) program.push(...flushShadow(real, shadow));
      if (shadows.size > 0) program.push(housekeeping('SET CONSTRAINTS ALL IMMEDIATE'));
      program.push(...this.#lateChecks(runs, places));
    } else {
      program.push(RELEASE);
    }
    const closing = program.length;
    program.push(...envelope.close.map((statement) => housekeeping(statement.text, statement.values)));
    try {
      const outcomes = await execute(this.#wire, program);
      return { outcomes: outcomes.slice(closing) };
    } catch (failure) {
      if (!(failure instanceof BatchFailure)) throw failure;
      const work = failure.index < begun ? null : (program[failure.index] as Work);
      return { work, before: program.slice(begun, failure.index), error: failure.error };
    }
  }

  /** Arrays whose elements the runs may change. */
  #elements(
    runs: readonly RowRun[],
    places: ReadonlyMap<string, Place>,
    shadows: ReadonlyMap<string, { real: Place; shadow: Place }>,
  ): readonly TouchedParents[] {
    return [...places.values()].flatMap((place) => {
      if (place.layout.elements === null) return [];
      const id = tableId(place.layout.elements.parent.table);
      const parent = shadows.get(id)?.shadow ?? (places.get(id) as Place);
      return touchedParents(runs, place, parent) ?? [];
    });
  }

  #keep(shadows: Map<string, { real: Place; shadow: Place }>, places: ReadonlyMap<string, Place>): void {
    this.#shadowed = shadows;
    for (const [id, place] of places) if (place.layout.late.length > 0) this.#unchecked.set(id, place);
  }

  /** What the server would check at COMMIT, were the role not replica. */
  #lateChecks(runs: readonly RowRun[], places: ReadonlyMap<string, Place>): Work[] {
    if (!this.#options.replica) return [];
    const work: Work[] = [...this.#unchecked.values()].flatMap(lateWholeSteps);
    for (const [id, place] of places) {
      if (place.layout.late.length === 0 || this.#unchecked.has(id)) continue;
      const own = runs.filter((run) => tableId(run.relation.table) === id);
      work.push(...(place.layout.key.length === 0 ? lateWholeSteps(place) : lateSteps(place, own)));
    }
    return work;
  }

  /** Rolls back and says which further tables need a shadow, or throws what the operator has to see. */
  async #recover(
    failure: ProgramFailure,
    envelope: Envelope,
    places: ReadonlyMap<string, Place>,
    shadows: ReadonlyMap<string, { real: Place; shadow: Place }>,
  ): Promise<Map<string, { real: Place; shadow: Place }>> {
    const { error } = failure;
    const state = sqlState(error);
    const first = envelope.open.length > 0;
    if (this.#wire.lost || state === '') throw lostOr(error, envelope.context);
    try {
      if (first) await this.#wire.one('ROLLBACK');
      else {
        await this.#wire.one('ROLLBACK TO SAVEPOINT verdigris_part');
        await this.#wire.one('RELEASE SAVEPOINT verdigris_part');
      }
    } catch (worse) {
      if (this.#wire.lost) throw translate(worse, 'sink', envelope.context);
      // COMMIT itself failed in a transaction that earlier parts had opened: nothing of it is left.
      throw translate(error, 'sink', envelope.context);
    }
    const { work } = failure;
    if (state === '22012' && (work === null || (!isCopy(work) && work.place === null)))
      throw fenced(envelope.context);
    if (REORDERED.has(state)) {
      const further = this.#concerned(error, places, shadows);
      if (further.size > 0) return further;
    }
    if (!/^2[23]/.test(state)) throw translate(error, 'sink', envelope.context);
    throw await locate(this.#wire, failure, envelope.context, first);
  }

  /** The keyed table that the server names, or all when it names none of the group. */
  #concerned(
    error: unknown,
    places: ReadonlyMap<string, Place>,
    shadows: ReadonlyMap<string, unknown>,
  ): Map<string, { real: Place; shadow: Place }> {
    const { schema = '', table = '' } = error as { readonly schema?: string; readonly table?: string };
    const named = tableId({ schema, name: table });
    const able = [...places].filter(
      ([, { layout }]) =>
        layout.key.length > 0 && layout.elements === null && (this.#options.replica || !layout.cascades),
    );
    const hit = able.filter(([, { layout }]) => layout.members.has(named));
    const chosen = (hit.length > 0 ? hit : able).filter(([id]) => !shadows.has(id));
    return new Map(
      chosen.map(([id, real], index) => [id, { real, shadow: shadowPlace(real, shadows.size + index) }]),
    );
  }
}

export const fenced = (context: Readonly<Record<string, unknown>>): VerdigrisError =>
  new VerdigrisError(
    'SINK_FENCED',
    'Another engine holds the lease, or the checkpoint is not where this one left it; nothing was written.',
    {
      context,
    },
  );

function lostOr(error: unknown, context: Readonly<Record<string, unknown>>): VerdigrisError {
  const translated = translate(error, 'sink', context);
  if (translated.code !== 'SINK_FAILED') return translated;
  return new VerdigrisError('SINK_LOST', 'The connection to the sink was lost.', { context, cause: error });
}
