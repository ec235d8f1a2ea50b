import type { VerdigrisEngine } from '../../src/app/engine.ts';
import { waitFor } from './wait.ts';

/** It replicates. @throws Error when the engine stops for the operator before */
export async function untilStarted(engine: VerdigrisEngine, starting: Promise<void>): Promise<void> {
  let over = false;
  const ended = starting.finally(() => {
    over = true;
  });
  ended.catch(() => undefined);
  const stopped = waitFor(
    async () => {
      if (over) return true;
      const { condition, error } = await engine.status();
      return condition === 'blocked' && error !== null ? error : null;
    },
    { what: 'the start', timeoutMs: 120_000, everyMs: 100 },
  ).then((found) => {
    if (found !== true) throw new Error(`stopped before it replicates: ${JSON.stringify(found)}`);
  });
  await Promise.race([ended, stopped.then(() => ended)]).finally(() => {
    over = true;
  });
}
