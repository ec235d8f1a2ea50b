import type { Contender, Run, Series } from './run.ts';
import { round } from './stats.ts';

/** What happens around the runs of a pair. */
export interface PairOptions {
  readonly repeat: number;
  readonly say: (text: string) => void;
  /** Before the runs of a pair, of which the first is 0. */
  readonly before?: (pair: number) => Promise<void>;
}

/** Lets each contender run in turn. Who runs first changes from pair to pair: neither always meets the warmer caches. */
export async function inPairs(
  contenders: readonly Contender[],
  { repeat, say, before }: PairOptions,
): Promise<Series[]> {
  const runs = new Map<Contender, Run[]>(contenders.map((contender) => [contender, []]));
  for (let pair = 0; pair < repeat; pair++) {
    await before?.(pair);
    for (const contender of pair % 2 === 0 ? contenders : [...contenders].reverse()) {
      const run = await contender.run();
      runs.get(contender)?.push(run);
      say(
        `  ${pair + 1}. ${contender.name}: ${round(run.seconds)} s${run.p99 === undefined ? '' : `, p99 ${round(run.p99, 1)} ms`}`,
      );
    }
  }
  return contenders.map((contender) => ({ name: contender.name, runs: runs.get(contender) ?? [] }));
}
