import { z } from 'zod';
import { BENCH_PROFILES } from '../core/bench.ts';

const perProcess = z.record(z.string(), z.number());

const benchFigures = z.strictObject({
  name: z.string(),
  seconds: z.number(),
  changesPerSecond: z.number(),
  mbPerSecond: z.number(),
  startSeconds: z.number(),
  cpuSeconds: perProcess,
  peakMb: perProcess,
  runs: z.array(z.number()),
});

/** `data` of `bench`. A ratio is seconds of the peer by ours, pair by pair, with its median: above 1 we are faster. */
export const benchSchema = z.strictObject({
  profile: z.enum(BENCH_PROFILES),
  repeat: z.int(),
  changes: z.number(),
  transactions: z.number(),
  bytes: z.number(),
  distinctKeys: z.number(),
  rowBytes: z.number(),
  verdigris: benchFigures,
  /** Null where it cannot be had; a note says why. */
  peer: benchFigures.nullable(),
  others: z.array(benchFigures.extend({ ratio: z.number(), ratios: z.array(z.number()) })),
  ratio: z.number().nullable(),
  ratios: z.array(z.number()),
  notes: z.array(z.string()),
  servers: z.strictObject({ blue: z.string(), green: z.string() }),
  machine: z.strictObject({
    cpu: z.string(),
    cores: z.int(),
    memoryGb: z.number(),
    kernel: z.string(),
    node: z.string(),
    load: z.number(),
  }),
});
