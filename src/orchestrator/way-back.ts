import type { WayBack } from '../cutover/context.ts';
import type { MigrationOptions } from './migration-options.ts';
import type { Way } from './way.ts';

export interface WayBackParts {
  readonly run: MigrationOptions;
  /** Makes what the way needs on both servers. */
  readonly prepare: () => Promise<Way>;
  /** Right before it is opened. */
  readonly beforeOpen?: (signal: AbortSignal) => Promise<void>;
  /** It, once it was prepared. */
  readonly way: () => Way | null;
  /** Age of the oldest transaction on the side it will read from, seconds; null: none. */
  readonly oldest: () => Promise<number | null>;
  readonly label: string;
  /** Of the run: it goes on after the switch. */
  readonly life: AbortSignal;
}

/** The other way of a run, as the steps of a switch and of a rollback see it. */
export function wayBackOf(parts: WayBackParts): WayBack {
  const { run, label, life } = parts;
  return {
    prepare: async () => {
      const way = await parts.prepare();
      return `${way.relations.length} tables of ${way.from} can be read back`;
    },
    open: async (signal) => {
      await parts.beforeOpen?.(signal);
      const way = parts.way() ?? (await parts.prepare());
      const at = await way.reposition();
      await way.prove({ label, mark: run.engine.capabilities.marksWhileFenced, at, life, signal });
      return `open at ${run.engine.positions.describe(at)}, answered a mark`;
    },
    close: async () => {
      await parts.way()?.stop();
    },
    measure: async () => {
      const seconds = await parts.oldest();
      return seconds === null || seconds < 1
        ? 'nothing to wait for'
        : `would wait for a transaction that is open for ${Math.round(seconds)} s`;
    },
  };
}
