import Table from 'cli-table3';
import type { Facts, Profile, Run } from './profile.ts';
import { median, round } from './stats.ts';

/** All runs of one contender. */
export interface Series {
  readonly name: string;
  readonly runs: readonly Run[];
}

const seconds = (run: Run): number => run.seconds;

/** The pairs in the order they ran: peer ÷ ours, above 1 ours is faster. */
export function ratiosOf(profile: Pick<Profile, 'by'>, ours: Series, peer: Series): number[] {
  const value = (run: Run): number => (profile.by === 'p99' ? (run.p99 as number) : run.seconds);
  return ours.runs.map((run, index) => round(value(peer.runs[index] as Run) / value(run)));
}

/** The figures of a series for a table and for JSON: medians, highest memory. */
export function summary(series: Series, facts: Facts): Record<string, unknown> {
  const { runs } = series;
  const taken = median(runs.map(seconds));
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.cpu)))];
  const lag = (key: 'p50' | 'p99' | 'max') =>
    runs[0]?.[key] === undefined
      ? {}
      : { [`${key}Ms`]: round(median(runs.map((run) => run[key] as number)), 1) };
  return {
    name: series.name,
    seconds: round(taken),
    changesPerSecond: Math.round(facts.changes / taken),
    mbPerSecond: round(facts.bytes / 1e6 / taken, 1),
    startSeconds: round(median(runs.map((run) => run.startSeconds))),
    cpuSeconds: Object.fromEntries(
      names.map((name) => [name, round(median(runs.map((run) => run.cpu[name] ?? 0)))]),
    ),
    peakMb: Object.fromEntries(
      names.map((name) => [name, Math.round(Math.max(...runs.map((run) => run.peakMb[name] ?? 0)))]),
    ),
    ...lag('p50'),
    ...lag('p99'),
    ...lag('max'),
    ...more(runs),
    runs: runs.map((run) => round(run.seconds)),
  };
}

/** Medians of the further figures. */
export function more(runs: readonly Run[]): Record<string, number> {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.more ?? {})))];
  return Object.fromEntries(
    names.map((name) => [
      name,
      round(median(runs.flatMap((run) => (run.more?.[name] === undefined ? [] : [run.more[name]])))),
    ]),
  );
}

export function table(all: readonly Series[], facts: Facts): string {
  const rows = all.map((series) => summary(series, facts));
  const out = new Table({
    head: ['', 'seconds', 'changes/s', 'MB/s', 'start s', 'CPU s', 'peak MB', 'p50 / p99 / max ms'],
    style: { head: [], border: [] },
  });
  const each = (value: unknown): string =>
    Object.entries(value as Record<string, number>)
      .map(([name, amount]) => `${name} ${amount}`)
      .join('\n');
  for (const row of rows) {
    const total = Object.values(row['cpuSeconds'] as Record<string, number>).reduce(
      (sum, one) => sum + one,
      0,
    );
    const lag =
      row['p99Ms'] === undefined
        ? ''
        : `${String(row['p50Ms'])} / ${String(row['p99Ms'])} / ${String(row['maxMs'] ?? '')}`;
    out.push([
      String(row['name']),
      `${String(row['seconds'])}\n(${(row['runs'] as number[]).join(' ')})`,
      String(row['changesPerSecond']),
      String(row['mbPerSecond']),
      String(row['startSeconds']),
      `${each(row['cpuSeconds'])}\nall ${round(total)}`,
      each(row['peakMb']),
      lag,
    ]);
  }
  return out.toString();
}
