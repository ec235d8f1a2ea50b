import Table from 'cli-table3';
import type { BenchFacts } from '../core/bench.ts';
import type { Run, Series } from './run.ts';
import { median, round } from './stats.ts';

/** What a ratio compares: seconds (default) or the 99th percentile in ms. */
export type RatioBy = 'seconds' | 'p99';

const seconds = (run: Run): number => run.seconds;

/** The pairs in the order they ran: peer ÷ ours, above 1 ours is faster. */
export function ratiosOf(by: RatioBy, ours: Series, peer: Series): number[] {
  const value = (run: Run): number => (by === 'p99' ? (run.p99 as number) : run.seconds);
  return ours.runs.map((run, index) => round(value(peer.runs[index] as Run) / value(run)));
}

/** What is known of every contender: medians, and the highest memory. By process where it says so. */
interface Figures {
  readonly name: string;
  readonly seconds: number;
  readonly changesPerSecond: number;
  readonly mbPerSecond: number;
  readonly startSeconds: number;
  readonly cpuSeconds: Readonly<Record<string, number>>;
  readonly peakMb: Readonly<Record<string, number>>;
  readonly runs: readonly number[];
}

function summary(series: Series, facts: BenchFacts): Figures & Record<string, unknown> {
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
function more(runs: readonly Run[]): Record<string, number> {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.more ?? {})))];
  return Object.fromEntries(
    names.map((name) => [
      name,
      round(median(runs.flatMap((run) => (run.more?.[name] === undefined ? [] : [run.more[name]])))),
    ]),
  );
}

/** What was prepared, in one line. */
export const describe = (facts: BenchFacts): string =>
  `${facts.changes} changes of ${facts.distinctKeys} distinct keys in ${facts.transactions} transactions, ` +
  `${round(facts.bytes / 1e6, 1)} MB, rows of some ${facts.rowBytes} bytes`;

/** The result as data: ours first, then the peer of the ratio, then the others. Without a peer the ratio is null. */
export function result(all: readonly Series[], facts: BenchFacts, by: RatioBy) {
  const [ours, peer, ...others] = all as [Series, ...Series[]];
  const against = (other: Series) => {
    const ratios = ratiosOf(by, ours, other);
    return { ratio: round(median(ratios)), ratios };
  };
  return {
    verdigris: summary(ours, facts),
    peer: peer === undefined ? null : summary(peer, facts),
    others: others.map((other) => ({ ...summary(other, facts), ...against(other) })),
    ...(peer === undefined ? { ratio: null, ratios: [] } : against(peer)),
  };
}

/** The result for people: a table, further figures, the ratios pair by pair. */
export function report(all: readonly Series[], facts: BenchFacts, by: RatioBy): string {
  const [ours, peer] = all;
  const lines = [table(all, facts)];
  for (const { name, runs } of all)
    for (const [figure, value] of Object.entries(more(runs))) lines.push(`${name}: ${figure} ${value}`);
  for (const other of ours === undefined ? [] : all.slice(1)) {
    const ratios = ratiosOf(by, ours as Series, other);
    const how = other === peer ? ` (its ${by} ÷ ours)` : '';
    lines.push(
      `ratio to ${other.name}${how}, pair by pair: ${ratios.join(' ')}, median ${round(median(ratios))}`,
    );
  }
  return lines.join('\n');
}

function table(all: readonly Series[], facts: BenchFacts): string {
  const rows = all.map((series) => summary(series, facts));
  const out = new Table({
    head: ['', 'seconds', 'changes/s', 'MB/s', 'start s', 'CPU s', 'peak MB', 'p50 / p99 / max ms'],
    style: { head: [], border: [] },
  });
  const each = (value: Readonly<Record<string, number>>): string =>
    Object.entries(value)
      .map(([name, amount]) => `${name} ${amount}`)
      .join('\n');
  for (const row of rows) {
    const used = Object.values(row.cpuSeconds);
    const cpu =
      used.length < 2
        ? each(row.cpuSeconds)
        : `${each(row.cpuSeconds)}\nall ${round(used.reduce((sum, one) => sum + one))}`;
    const lag =
      row['p99Ms'] === undefined
        ? ''
        : `${String(row['p50Ms'])} / ${String(row['p99Ms'])} / ${String(row['maxMs'] ?? '')}`;
    out.push([
      row.name,
      `${row.seconds}\n(${row.runs.join(' ')})`,
      String(row.changesPerSecond),
      String(row.mbPerSecond),
      String(row.startSeconds),
      cpu,
      each(row.peakMb),
      lag,
    ]);
  }
  return out.toString();
}
