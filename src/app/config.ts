import { z } from 'zod';
import { parseDuration, parseSize } from '../core/units.ts';
import { windowProblem } from '../orchestrator/windows.ts';
import { mappingSchema } from '../transform/spec.ts';

const isDuration = (text: string): boolean => parseDuration(text) !== null;
const NOT_DURATION = 'not a duration (examples: 500ms, 30s, 1h30m)';

const duration = (fallback: string, description: string) =>
  z.string().refine(isDuration, NOT_DURATION).default(fallback).describe(description);

const size = (fallback: string, description: string) =>
  z
    .string()
    .refine((text) => parseSize(text) !== null, 'not a size (examples: 64MiB, 20GiB)')
    .default(fallback)
    .describe(description);

const stateSchema = z
  .string()
  .min(1)
  .refine((text) => Buffer.byteLength(text) <= 63, 'longer than 63 bytes')
  .default('verdigris')
  .describe('Schema or database for our state: checkpoint, journal, lease, fence record, rejects.');

const engineName = z.string().min(1).describe('Database engine; the same on both sides.');

// A side is loose here: every further key belongs to the engine, whose own check runs right after this one.
const blue = z
  .looseObject({ engine: engineName, state_schema: stateSchema })
  .describe('The database that serves now. Further keys are those of the engine.');

const green = z
  .looseObject({
    engine: engineName,
    schema_file: z
      .string()
      .min(1)
      .optional()
      .describe("Green's DDL, applied when its tables do not exist; relative to this file."),
    state_schema: stateSchema,
  })
  .describe('The database that will serve. Further keys are those of the engine.');

const copy = z
  .strictObject({
    workers: z.int().min(1).max(64).default(4).describe('Ranges that are copied at the same time.'),
    chunk: z
      .strictObject({
        max_rows: z.int().min(100).max(10_000_000).default(50_000).describe('Rows of one range.'),
      })
      .prefault({})
      .describe('Size of the ranges a table is copied in.'),
    max_rows_per_sec: z
      .int()
      .min(1)
      .nullable()
      .default(null)
      .describe('Upper bound over all workers; null: none.'),
    max_held: size(
      '64MiB',
      'Changes that may wait for open ranges, all together; past it the largest range is read again later.',
    ),
  })
  .prefault({})
  .describe('The first copy.');

const apply = z
  .strictObject({
    batch: z
      .strictObject({
        max_rows: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(20_000)
          .describe('Rows of one transaction on the sink.'),
        max_bytes: size('8MiB', 'Bytes of one transaction on the sink.'),
      })
      .prefault({})
      .describe('When a group of source transactions is committed although more is queued.'),
    max_transaction: size(
      '4MiB',
      'A larger source transaction is taken in parts of one transaction of the sink.',
    ),
    heartbeat: duration('1s', 'How often a mark is written into the log of the source, to measure lag.'),
    rejects: z
      .strictObject({
        stop_after: z.int().min(0).default(100).describe('Rejected rows at which the stream stops.'),
      })
      .prefault({})
      .describe('Rows that the mapping does not take.'),
  })
  .prefault({})
  .describe('The stream of changes.');

const throttle = z
  .array(
    z.strictObject({
      name: z.string().min(1).describe('Shown as the reason while it holds.'),
      on: z.enum(['blue', 'green']).describe('Where the query runs.'),
      query: z.string().min(1).describe('One number: first column of the first row.'),
      max: z.number().describe('The copy waits while the number is above this.'),
    }),
  )
  .default([])
  .describe('Conditions under which the copy waits.');

const verify = z
  .strictObject({
    after_copy: z
      .enum(['full', 'off'])
      .default('full')
      .describe('Compare all rows once the copy is complete.'),
    max_rows_per_sec: z.int().min(1).nullable().default(null).describe('Upper bound; null: none.'),
    recheck: z
      .strictObject({
        attempts: z.int().min(1).max(100).default(5).describe('Looks at a differing key before it counts.'),
        delay: duration('2s', 'Between two looks, for rows that are on their way.'),
      })
      .prefault({})
      .describe('Rows in flight get another look.'),
    continuous: z
      .strictObject({
        every: duration('1h', 'Rest between the end of a round and the next one.'),
        max_rows_per_sec: z
          .int()
          .min(1)
          .nullable()
          .default(50_000)
          .describe('Upper bound of these rounds; null: none.'),
      })
      .nullable()
      .default(null)
      .describe('Full rounds again and again; null: only when asked for.'),
  })
  .prefault({})
  .describe('Comparison of both sides.');

const gates = z
  .strictObject({
    max_commit_lag: duration('2s', 'Commit on blue to commit on green.'),
    stable_for: duration('60s', 'The lag must have been below the limit for so long.'),
    max_round_trip: duration('2s', 'A mark written on blue must come back in this time.'),
    verified_within: duration('30m', 'Age of the last clean verification.'),
    max_transaction_age: duration('20s', 'Oldest open transaction on blue.'),
    max_rejects: z.int().min(0).default(0).describe('Rejected rows that may stand.'),
    rollback_rehearsed_within: z
      .union([z.string().refine(isDuration, NOT_DURATION), z.null()])
      .default(null)
      .describe('Age of the last `verdigris rehearse` of this plan; null: none is asked for.'),
    approvals: z
      .strictObject({
        count: z
          .int()
          .min(0)
          .max(20)
          .default(0)
          .describe('Different people who approve the plan in force, besides who starts the switch.'),
        roles: z
          .array(z.string().min(1).max(60))
          .default([])
          .describe('Each of these roles has to be among them; empty: any role.'),
      })
      .refine(({ count, roles }) => roles.length <= count, {
        error: 'more roles than people: everybody approves in one role',
        path: ['roles'],
      })
      .prefault({})
      .describe('`verdigris approve`; void when the plan changes.'),
  })
  .prefault({})
  .describe('Conditions of the switch.');

const cutover = z
  .strictObject({
    mode: z
      .enum(['manual'])
      .default('manual')
      .describe('manual: it waits, without limit, for `verdigris cutover`.'),
    windows: z
      .array(
        z
          .strictObject({
            name: z
              .string()
              .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/, 'at most 40 letters, digits, _ and -')
              .describe('For `verdigris cutover --window`.'),
            cron: z
              .string()
              .min(1)
              .describe('When it opens: minute, hour, day of month, month, day of week. Example: 0 2 * * 6'),
            duration: z
              .string()
              .refine(isDuration, NOT_DURATION)
              .describe('How long it stays open, also over a change of the clocks.'),
            timezone: z.string().min(1).default('UTC').describe('Whose clock. Example: Europe/Berlin'),
          })
          .superRefine(({ cron, timezone }, issues) => {
            const wrong = windowProblem({ cron, timezone });
            if (wrong === null) return;
            issues.addIssue({
              code: 'custom',
              path: [wrong],
              message:
                wrong === 'cron'
                  ? 'not five fields of cron that come true some day (example: 0 2 * * 6)'
                  : 'not a time zone (example: Europe/Berlin)',
            });
          }),
      )
      .refine((windows) => new Set(windows.map(({ name }) => name)).size === windows.length, {
        error: 'two windows have the same name',
      })
      .default([])
      .describe('A switch begins only in one of these; empty: at any time.'),
    max_write_pause: duration(
      '10s',
      'Writers may wait this long; past it, and before the switch, everything is undone.',
    ),
    fence_timeout: duration('8s', 'To stop every writer on blue.'),
    kill_blockers_after: z
      .union([z.string().refine(isDuration, NOT_DURATION), z.null()])
      .default('3s')
      .describe('Sessions that hold the fence up are ended after this time; null: never.'),
    max_recheck_keys: z
      .int()
      .min(0)
      .default(20_000)
      .describe(
        'More keys than this to compare while writers wait keeps the gate shut. A changed table without a key counts with all its rows.',
      ),
    reverse_replication: z
      .strictObject({
        enabled: z
          .boolean()
          .default(true)
          .describe(
            'After the switch rows written on green go back to blue, so that a rollback loses nothing; false: switch without a way back.',
          ),
      })
      .prefault({})
      .describe('The way back.'),
    smoke: z
      .array(
        z.strictObject({
          via: z
            .enum(['proxy', 'green'])
            .default('proxy')
            .describe('Through the proxy, as clients do, or straight to green.'),
          sql: z.string().min(1).describe('Must not fail.'),
        }),
      )
      .default([])
      .describe('Queries after the switch.'),
    proxies: z
      .array(
        z
          .looseObject({ adapter: z.string().min(1).describe('Kind of proxy.') })
          .describe('Further keys are those of the adapter.'),
      )
      .default([])
      .describe('Everything that sends clients to a side: all of them or none are switched.'),
  })
  .prefault({})
  .describe('The switch.');

const server = z
  .strictObject({
    state_dir: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Folder of the control socket; default: $XDG_STATE_HOME/verdigris or ~/.local/state/verdigris.',
      ),
  })
  .prefault({})
  .describe('The engine process.');

/** The whole configuration file. Every leaf has a type, a default (or is required) and a description. */
export const configSchema = z.strictObject({
  version: z.literal(1).describe('Version of this format.'),
  migration: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,39}$/, 'a letter, then at most 39 of a-z, 0-9, _ and -')
    .describe('Name used in slots, state, metrics and in the typed confirmation.'),
  description: z.string().optional().describe('For people.'),
  blue,
  green,
  tables: mappingSchema.describe('Which tables, and how their rows become rows of green.'),
  sequences: z
    .strictObject({
      headroom: z
        .int()
        .min(0)
        .default(1000)
        .describe("Steps that green's sequences are set past those of blue."),
    })
    .prefault({})
    .describe('Sequences are moved at the switch.'),
  copy,
  apply,
  throttle,
  verify,
  gates,
  cutover,
  server,
});

/** The file after defaults. Durations and sizes are still text; {@link import('./settings.ts')} turns them into numbers. */
export type Config = z.output<typeof configSchema>;

/** Keys of a side that are not the engine's. */
export const SIDE_KEYS: readonly string[] = ['engine', 'schema_file', 'state_schema'];
