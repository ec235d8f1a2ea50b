import type { Side } from '../core/engine.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { WriteFence } from '../core/fence.ts';
import { showTable, type TableName } from '../core/table.ts';
import { subjectOf } from '../verify/subject.ts';
import type { ForeignWatch } from '../verify/foreign-writes.ts';
import { Verifier } from '../verify/verifier.ts';
import { buildWay } from './build-way.ts';
import type { Compiled } from './compiled.ts';
import { pairCounters } from './counter-pairs.ts';
import { foreignFact, watchGreen } from './foreign.ts';
import { GateFactsReader } from './gate-facts.ts';
import type { MigrationOptions } from './migration-options.ts';
import { isOver } from './phase.ts';
import { estimate } from './plan-report.ts';
import { Reverse } from './reverse.ts';
import type { RunState } from './run-state.ts';
import { settling } from './settling.ts';
import type { Way } from './way.ts';

/** What exists only while the run is held. */
export interface Held {
  readonly state: RunState;
  readonly compiled: Compiled;
  /** From blue to green. */
  readonly forward: Way;
  /** From green to blue: made before the switch, carries after it. */
  readonly reverse: Reverse;
  readonly fences: Readonly<Record<Side, WriteFence>>;
  /** Mapped tables. */
  readonly tables: Readonly<Record<Side, readonly TableName[]>>;
  /** By the side that serves. */
  readonly facts: Readonly<Record<Side, GateFactsReader>>;
  readonly verifier: Verifier;
  /** Reads green's log for writes that are not ours; null where the engine cannot tell them. */
  readonly foreign: ForeignWatch | null;
  /** Changes when a mapped table of blue was written anew: its rows may have changed without a row in the log. */
  readonly rewrites: () => Promise<string>;
}

export const other = (side: Side): Side => (side === 'blue' ? 'green' : 'blue');

/** With more than this a backlog is being applied to green. */
const BUSY_LAG_SECONDS = 5;

/**
 * Finds or makes the record of the run, and refuses one that is over or was begun with another plan.
 * @throws VerdigrisError CUTOVER_PHASE, PLAN_STALE
 */
export async function admit(
  state: RunState,
  now: { readonly plan: string; readonly mapping: string },
): Promise<void> {
  if (state.record === null) await state.create(now.plan, { mapping: now.mapping });
  const { record } = state;
  if (record === null) return;
  if (isOver(record.phase)) {
    throw new VerdigrisError('CUTOVER_PHASE', `The run has ended: ${record.phase}.`, {
      remedy: 'Give the migration another name, or remove the state that was kept.',
    });
  }
  const began = record.detail['mapping'];
  if (began !== now.mapping && record.phase !== 'preparing') {
    throw new VerdigrisError(
      'PLAN_STALE',
      'The mapping changed since the run began; green holds rows of the old one.',
      {
        remedy: 'Go back to the mapping that the run began with, or abort it and start again.',
        context: { began: String(began).slice(0, 8), now: now.mapping.slice(0, 8) },
      },
    );
  }
  // Other settings may change between two starts; who looked at the plan before has to look again.
  if (record.planHash !== now.plan) await state.replan(now.plan, { mapping: now.mapping });
}

/**
 * Makes green's tables where a schema file says how, while nothing has been copied yet.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING
 */
export async function applySchema(o: MigrationOptions, state: RunState, before: Compiled): Promise<void> {
  const { settings, green } = o;
  if (settings.schemaSql !== null && state.phase === 'preparing') {
    const ran = await green.catalog.applySchema(settings.schemaSql, before.targetNames);
    if (ran) await state.note('schema.applied', {});
  } else if (before.missingTargets) {
    throw new VerdigrisError(
      'SCHEMA_TABLE_MISSING',
      `Green lacks mapped tables: ${before.targetNames.map(showTable).join(', ')}.`,
      {
        remedy: 'Create them, or name a schema file in green.schema_file.',
      },
    );
  }
}

/** What of a run belongs to this process. */
export interface Own {
  /** Unique among processes: part of every mark. */
  readonly holder: string;
  readonly permit: (signal: AbortSignal) => Promise<void>;
  /** Another engine has taken over. */
  readonly onLost: (error: VerdigrisError) => void;
}

/** Puts the parts of a run together. Nothing runs yet. */
export async function hold(
  o: MigrationOptions,
  state: RunState,
  { compiled, own }: { compiled: Compiled; own: Own },
): Promise<Held> {
  const { settings, blue, green, clock, log, failpoints, proxies } = o;
  await estimate(compiled, blue);
  const holder = `${settings.migration}:${own.holder}`;
  const permit = (signal: AbortSignal): Promise<void> => own.permit(signal);
  const forward = buildWay(o, {
    direction: 'forward',
    term: state.term,
    plans: compiled.plans,
    units: compiled.units,
    targets: compiled.targets,
    tracked: compiled.verifyTables.map((table) => ({
      relation: table.target.relation,
      identify: subjectOf(table),
    })),
    holder,
    permit,
  });
  const blueTables = compiled.sources.map((relation) => relation.table);
  const greenTables = compiled.targets.map((target) => target.relation.table);
  const verifier = new Verifier({
    sides: { blue: blue.digester, green: green.digester },
    tables: compiled.verifyTables,
    changes: forward.pipeline.changed,
    settle: settling({ way: forward, label: `${holder}:verify`, clock }),
    permit,
    store: green.verification,
    run: { id: settings.migration, term: state.term },
    settings: { chunkRows: settings.copy.chunkRows, workers: settings.copy.workers, ...settings.verify },
    clock,
    failpoints,
  });
  const foreign = watchGreen(o, state, {
    compiled,
    label: `${holder}:foreign`,
    busy: () => (forward.pipeline.lag.commitSeconds ?? 0) > BUSY_LAG_SECONDS,
  });
  const reverse = new Reverse({ run: o, state, compiled, forward, holder, permit, onLost: own.onLost });
  const facts = (from: Side): GateFactsReader =>
    new GateFactsReader({
      from,
      sessions: { blue, green },
      tables: { blue: blueTables, green: greenTables },
      proxies,
      foreignWrites: () => foreignFact(from === 'blue' ? foreign : reverse.watch, o.engine.positions),
      clock,
      log,
      unmatchedCounters: async () => (await countersFor(o, compiled, other(from))).unmatched,
      // What carried there carries there again.
      wayBack: from === 'blue' ? () => reverse.problems() : () => Promise.resolve(reverse.wanted ? [] : null),
    });
  return {
    state,
    compiled,
    forward,
    reverse,
    fences: { blue: blue.fence(blueTables), green: green.fence(greenTables) },
    tables: { blue: blueTables, green: greenTables },
    verifier,
    foreign,
    rewrites: () => blue.catalog.rewrites(blueTables),
    facts: { blue: facts('blue'), green: facts('green') },
  };
}

/** Counters of the side that will serve, with those of the other that feed them. */
export async function countersFor(
  { blue, green }: Pick<MigrationOptions, 'blue' | 'green'>,
  { origins }: Compiled,
  to: Side,
): Promise<ReturnType<typeof pairCounters>> {
  const [ofBlue, ofGreen] = await Promise.all([blue.counters.list(), green.counters.list()]);
  if (to === 'green') return pairCounters(ofBlue, ofGreen, origins);
  const swapped = origins.map((origin) => ({ blue: origin.green, green: origin.blue }));
  return pairCounters(ofGreen, ofBlue, swapped);
}
