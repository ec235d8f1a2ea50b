import type { Bench, BenchFacts, BenchLoad, BenchProfile } from '../core/bench.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import { createEngine } from '../app/engine.ts';
import type { LoadedConfig } from '../app/load.ts';
import { throwaway } from './configuration.ts';
import { thisMachine, type Machine } from './machine.ts';
import { inPairs } from './pairs.ts';
import { describe, report, result } from './report.ts';
import { Round } from './round.ts';

export interface RunBenchOptions {
  readonly load: BenchLoad;
  /** Alternating pairs. */
  readonly repeat: number;
  /** Aborting gives up; what was made is removed all the same. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Progress for people. */
  readonly say: (text: string) => void;
}

/** Data and text of a bench. */
export interface BenchOutcome {
  readonly data: BenchFacts &
    ReturnType<typeof result> & {
      readonly profile: BenchProfile;
      readonly repeat: number;
      readonly notes: readonly string[];
      readonly servers: { readonly blue: string; readonly green: string };
      readonly machine: Machine;
    };
  readonly text: string;
}

const notesOf: Readonly<Record<BenchProfile, (loaded: LoadedConfig) => string[]>> = {
  catchup: () => [
    'the clock runs from the moment the log is read until the last row of the backlog can be read on green',
    'bytes are those of the log of blue, whoever wrote into it meanwhile',
  ],
  copy: ({ config }) => [
    'the clock runs from the command until all rows are on green and every index is valid',
    `ours copies ${config.copy.workers} ranges at a time (copy.workers)`,
  ],
};

/** The engine's part. @throws VerdigrisError USAGE when it has none */
export function benchOf({ engine }: LoadedConfig): Bench {
  if (engine.bench !== undefined) return engine.bench;
  throw new VerdigrisError('USAGE', `there is no bench for ${engine.name} yet`, {
    remedy: '`verdigris plan` and `verdigris doctor` work for it as for every engine.',
  });
}

/**
 * Measures our own run beside what the server brings itself, on the databases of a configuration, in tables of its own. Leaves nothing.
 * @throws VerdigrisError USAGE for an engine without a bench, of `open` where it may not be done, of the run, VERIFY_DIFFERENT when a run lost a row
 */
export async function runBench(loaded: LoadedConfig, options: RunBenchOptions): Promise<BenchOutcome> {
  const { load, repeat, signal, log, say } = options;
  const bench = benchOf(loaded);
  const parts = {
    blue: bench.withoutNames(loaded.blue.config),
    green: bench.withoutNames(loaded.green.config),
  };
  await using sides = await bench.open({ ...parts, signal, log });
  const left = await sides.clear();
  if (left.length > 0) say(`removed what an earlier bench had left: ${left.join(', ')}`);
  const round = new Round(sides, options, (tables) =>
    createEngine(
      throwaway(loaded, { ...parts, migration: bench.migration, stateSchema: sides.stateSchema, tables }),
      { logger: log, signal },
    ),
  );
  let failure: unknown = null;
  try {
    const contenders = await round.begin();
    const notes = [...notesOf[load.profile](loaded), ...round.notes];
    say(describe(round.facts));
    const series = await inPairs(contenders, {
      repeat,
      say,
      before: async (pair) => void (pair === 0 || (await round.prepare())),
    });
    for (const note of notes) say(`note: ${note}`);
    const data = {
      profile: load.profile,
      repeat,
      ...round.facts,
      ...result(series, round.facts, 'seconds'),
      notes,
      servers: sides.versions,
      machine: thisMachine(),
    };
    return { data, text: report(series, round.facts, 'seconds') };
  } catch (error) {
    // What was cancelled fails in its own words.
    failure = signal.aborted ? asVerdigrisError(signal.reason) : error;
    throw failure;
  } finally {
    await round.end().catch((error: unknown) => {
      say('not all of what the bench made could be removed; the next one removes it');
      if (failure === null) throw error;
      log.error({ error }, 'the bench could not clear up');
    });
  }
}
