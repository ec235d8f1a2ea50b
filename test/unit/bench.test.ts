import { expect, test } from 'vitest';
import { lagsOf, median, quantile } from '../../bench/stats.ts';
import { ratiosOf } from '../../src/bench/report.ts';
import { messages } from '../../bench/micro/messages.ts';
import { BLUE, plan, runOf, tuples } from '../../bench/micro/rows.ts';
import { Decoder } from '../../src/engines/postgres/decoder.ts';

test('median and quantiles interpolate between ranks and do not change their input', () => {
  const values = [4, 1, 3, 2];
  expect(median(values)).toBe(2.5);
  expect(median([7])).toBe(7);
  expect(quantile(values, 1)).toBe(4);
  expect(quantile([0, 10], 0.99)).toBeCloseTo(9.9);
  expect(median([])).toBeNaN();
  expect(values).toEqual([4, 1, 3, 2]);
});

test('a row counts from when it was due, also where it was written late: no coordinated omission', () => {
  // Rows were due at 10, 20 and 30; the writer stood still and all of them were seen at 100.
  expect(
    lagsOf(
      [10, 20, 30],
      [
        { newest: 0, at: 15 },
        { newest: 3, at: 100 },
      ],
    ),
  ).toEqual([90, 80, 70]);
  // What nobody has seen has no lag yet, and a look at a row that was never due adds nothing.
  expect(lagsOf([10, 20], [{ newest: 1, at: 12 }])).toEqual([2]);
  expect(lagsOf([10], [{ newest: 5, at: 12 }])).toEqual([2]);
});

test('a ratio is that of a pair: above 1 we are faster, and a slow minute hits both', () => {
  const run = (seconds: number, p99?: number) => ({
    seconds,
    startSeconds: 0,
    cpu: {},
    peakMb: {},
    ...(p99 === undefined ? {} : { p99 }),
  });
  const ours = { name: 'verdigris', runs: [run(2, 10), run(20, 10)] };
  const peer = { name: 'subscription', runs: [run(4, 5), run(40, 20)] };
  expect(ratiosOf('seconds', ours, peer)).toEqual([2, 2]);
  expect(ratiosOf('p99', ours, peer)).toEqual([0.5, 2]);
});

test('the rows of the small benchmarks really go through decoder and mapping', () => {
  const rows = tuples(50, 1_000);
  const { buffer, spans } = messages(BLUE, rows);
  const decoder = new Decoder();
  const decoded = spans.map(({ start, end }) => decoder.decode(buffer, start, end));
  expect(decoded.slice(1).map((message) => (message.kind === 'insert' ? message.after : null))).toEqual(rows);
  const { runs, rejects } = plan().run(runOf('insert', rows));
  expect(rejects).toEqual([]);
  expect(runs[0]?.after[3]).toEqual([
    rows[3]?.[0],
    'First3',
    'Last Name',
    'user3@example.org',
    '325',
    'closed',
    rows[3]?.[5],
    rows[3]?.[6],
  ]);
});
