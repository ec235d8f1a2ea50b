import type { ChangeSource, ImageChange } from '../core/source.ts';
import { ForeignWatch } from '../verify/foreign-writes.ts';
import type { Compiled } from './compiled.ts';
import type { MigrationOptions } from './migration-options.ts';
import type { RunState } from './run-state.ts';

/** Images of foreign changes of green that are kept: the rows stand there, and verification finds what they did. */
const MOST_KEPT = 100_000;

/** Key of the record's details: what old rows of green brought before. */
const IMAGES = 'watchImages';

const imagesOf = (state: RunState): readonly ImageChange[] =>
  (state.record?.detail[IMAGES] ?? []) as readonly ImageChange[];

/**
 * Reads green's log while only we may write there, from the end of the copy until the switch. It has a slot of its own, so that the
 * way back can be made and opened beside it.
 * Null where the engine cannot tell its own writes from others.
 */
export function watchGreen(
  o: MigrationOptions,
  state: RunState,
  {
    compiled,
    label,
    busy,
  }: { readonly compiled: Compiled; readonly label: string; readonly busy: () => boolean },
): ForeignWatch | null {
  const { green, engine, settings, clock, log } = o;
  if (green.foreignWrites === undefined) return null;
  const { positions } = engine;
  const stream = { direction: 'reverse', watch: true } as const;
  const source = green.changes({ ...stream, term: state.term, maxBatchBytes: settings.apply.batchBytes });
  const tables = () =>
    Promise.all(compiled.targets.map(({ relation }) => green.catalog.source(relation.table)));
  return new ForeignWatch({
    source,
    tables,
    // Once its log is read the server refuses updates of rows that it cannot name.
    prepare: async () => {
      const without = (await tables()).filter(({ identity }) => identity === 'none');
      const changed = (await source.fullImages?.(without.map(({ table }) => table))) ?? [];
      if (changed.length > 0) await state.remember({ [IMAGES]: [...imagesOf(state), ...changed] });
    },
    restore: () => source.restoreImages?.(imagesOf(state)) ?? Promise.resolve(),
    positions,
    store: green.foreignWrites,
    owner: { id: settings.migration, term: state.term, side: 'green' },
    mostKept: MOST_KEPT,
    marks: engine.capabilities.marksWhileFenced,
    label,
    busy,
    clock,
    log,
    onFound: ({ sequence, position, commitMs, rows }) =>
      state.note('green.foreign-write', {
        sequence,
        position: positions.describe(position),
        committedAt: new Date(commitMs).toISOString(),
        rows,
      }),
  });
}

/**
 * Reads blue's log while green serves, with the slot of the way to green, which carries nothing meanwhile: so that slot does not hold the
 * log up, and what is found begins right behind the fence. Images are all kept: blue is where somebody believes to have stored it.
 * Null where the engine cannot tell its own writes from others.
 */
export function watchBlue(
  o: MigrationOptions,
  state: RunState,
  parts: {
    readonly compiled: Compiled;
    readonly source: ChangeSource;
    /** Of the lease on blue. */
    readonly term: number;
    readonly label: string;
  },
): ForeignWatch | null {
  const { blue, engine, settings, clock, log } = o;
  if (blue.foreignWrites === undefined) return null;
  const { positions } = engine;
  return new ForeignWatch({
    source: parts.source,
    tables: () => Promise.resolve(parts.compiled.sources),
    prepare: () => Promise.resolve(),
    restore: () => Promise.resolve(),
    positions,
    store: blue.foreignWrites,
    owner: { id: settings.migration, term: parts.term, side: 'blue' },
    mostKept: null,
    marks: engine.capabilities.marksWhileFenced,
    label: parts.label,
    // Nothing is applied there but the way back.
    busy: () => false,
    clock,
    log,
    onFound: ({ sequence, position, commitMs, rows }) =>
      state.note('blue.foreign-write', {
        sequence,
        position: positions.describe(position),
        committedAt: new Date(commitMs).toISOString(),
        rows,
      }),
  });
}

/** What the gate `foreign-writes` looks at; null where nobody can tell. */
export interface ForeignWritesFact {
  /** Null: the log is read. */
  readonly blind: string | null;
  readonly count: number;
  /** The first of them, for people. */
  readonly named: readonly string[];
}

export function foreignFact(
  watch: ForeignWatch | null,
  positions: MigrationOptions['engine']['positions'],
): ForeignWritesFact | null {
  if (watch === null) return null;
  const { blind, count, open } = watch.facts;
  return {
    blind,
    count,
    named: open.slice(0, 3).map(({ position, commitMs, rows }) => {
      const tables = Object.entries(rows).map(([table, changed]) => `${table} (${changed})`);
      return `${positions.describe(position)} at ${new Date(commitMs).toISOString()}: ${tables.join(', ')}`;
    }),
  };
}
