import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Largest half of the young generation, bytes. V8's own limit on a large machine is 64 MiB, so 128 MiB in all. */
const YOUNG = 32 * 2 ** 20;
/** How far the old generation may grow beyond what the last collection found alive, percent. V8 takes up to 300 while it is small. */
const OLD_GROWTH = 100;
const EVERY_MS = 50;

/**
 * Keeps garbage from piling up: rows of a backlog live as long as two groups, and V8, which sees a machine with much memory, lets the process
 * grow to several times of what is alive before it looks. For the process of the engine alone: the settings are those of all its code.
 *
 * The size of the young generation is an option of the start of a process; only the factor it grows by can be set later, so it is set to 1
 * where the next step would go too far. A collection at a quiet time makes the generation small again, hence the timer.
 */
export function boundHeap(): Disposable {
  setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH}`);
  let set = 0;
  const look = (): void => {
    const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    const half = Math.max(1, (space?.space_size ?? 0) / 2);
    const factor = half * 2 <= YOUNG ? 2 : 1;
    if (factor === set) return;
    set = factor;
    setFlagsFromString(`--semi-space-growth-factor=${factor}`);
  };
  look();
  const timer = setInterval(look, EVERY_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
