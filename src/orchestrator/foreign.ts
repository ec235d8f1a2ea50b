import { ForeignWatch } from '../verify/foreign-writes.ts';
import type { Compiled } from './compiled.ts';
import type { MigrationOptions } from './migration-options.ts';
import type { RunState } from './run-state.ts';

/** Images of foreign changes of green that are kept: the rows stand there, and verification finds what they did. */
const MOST_KEPT = 100_000;

/**
 * Reads green's log while only we may write there. It is the log of the way back: the same stream takes it over after the switch.
 * Null where the engine cannot tell its own writes from others.
 */
export function watchGreen(
  o: MigrationOptions,
  state: RunState,
  { compiled, label }: { readonly compiled: Compiled; readonly label: string },
): ForeignWatch | null {
  const { green, engine, settings, clock, log } = o;
  if (green.foreignWrites === undefined) return null;
  const { describe } = engine.positions;
  return new ForeignWatch({
    source: green.changes({
      direction: 'reverse',
      term: state.term,
      maxBatchBytes: settings.apply.batchBytes,
    }),
    tables: () => Promise.all(compiled.targets.map(({ relation }) => green.catalog.source(relation.table))),
    positions: engine.positions,
    store: green.foreignWrites,
    owner: { id: settings.migration, term: state.term, side: 'green' },
    mostKept: MOST_KEPT,
    marks: engine.capabilities.marksWhileFenced,
    label,
    clock,
    log,
    onFound: ({ sequence, position, commitMs, rows }) =>
      state.note('green.foreign-write', {
        sequence,
        position: describe(position),
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
  describe: MigrationOptions['engine']['positions']['describe'],
): ForeignWritesFact | null {
  if (watch === null) return null;
  const { blind, count, open } = watch.facts;
  return {
    blind,
    count,
    named: open.slice(0, 3).map(({ position, commitMs, rows }) => {
      const tables = Object.entries(rows).map(([table, changed]) => `${table} (${changed})`);
      return `${describe(position)} at ${new Date(commitMs).toISOString()}: ${tables.join(', ')}`;
    }),
  };
}
