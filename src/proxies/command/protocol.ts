import { z } from 'zod';

export const PROTOCOL = 1;

/** What the program gets on standard input: one JSON object, then the end of the input. */
export interface Request {
  readonly protocol: typeof PROTOCOL;
  readonly action: 'probe' | 'observe' | 'pause' | 'route' | 'resume';
  /** Where to; only with route, else null. */
  readonly side: 'blue' | 'green' | null;
  /** Number of the routing decision, ever higher; only with route, else null. */
  readonly epoch: number | null;
  /** Milliseconds from now after which it is ended. */
  readonly deadlineMs: number;
}

/** Exit codes beside 0 (done). */
export const EXIT = { unreachable: 69, outOfTime: 75 } as const;

const text = z.string().max(10_000);

export const ProbeAnswer = z.object({
  version: text.min(1),
  holdsForMs: z.number().min(0).nullable().optional(),
  findings: z
    .array(z.object({ level: z.enum(['block', 'warn']), text: text.min(1), remedy: text.default('') }))
    .default([]),
});

export const ObserveAnswer = z.object({
  to: z.enum(['blue', 'green', 'mixed', 'unknown']),
  paused: z.boolean(),
  detail: text.default('no detail was given'),
  waiting: z.int().min(0).nullable().default(null),
});

/** What pause, route and resume print: nothing has to be in it, what counts is observed afterwards. */
export const ActAnswer = z.object({});

export const FailureAnswer = z.object({ error: text, remedy: text.optional() });
