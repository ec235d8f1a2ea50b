const last: (() => void)[] = [];

/**
 * Does something synchronous when this process ends, by itself or by a signal; what was registered last is done first. Not after
 * SIGKILL: the run's ledger is for that.
 */
export function atProcessEnd(work: () => void): void {
  if (last.push(work) > 1) return;
  process.prependListener('exit', doAll);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.once(signal, () => {
      doAll();
      // Ours was the only listener: the signal keeps its meaning. Others (vitest's own) end the process themselves.
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    });
  }
}

function doAll(): void {
  for (let work = last.pop(); work !== undefined; work = last.pop()) work();
}
