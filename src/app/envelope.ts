import { z } from 'zod';
import { CODES, VerdigrisError, type Code } from '../core/errors.ts';
import { GATES } from '../core/gate.ts';
import { PHASES } from '../core/state.ts';
import { benchSchema } from './bench-data.ts';
import type { Redactor } from './redact.ts';

export const API_VERSION = 'verdigris/v1';

const codes = Object.keys(CODES) as [Code, ...Code[]];

/** `error` of the envelope. */
export const errorSchema = z.strictObject({
  code: z.enum(codes),
  message: z.string(),
  hint: z.string(),
  docs: z.string(),
  /** The same command may be tried again as it is. */
  retryable: z.boolean(),
  context: z.record(z.string(), z.unknown()),
});
export type EnvelopeError = z.output<typeof errorSchema>;

const metaSchema = z.strictObject({
  version: z.string(),
  at: z.iso.datetime(),
  migration: z.string().nullable(),
});

const envelopeOf = (kind: z.ZodType<string>, data: z.ZodType) =>
  z
    .strictObject({
      apiVersion: z.literal(API_VERSION),
      kind,
      ok: z.boolean(),
      data: data.nullable(),
      warnings: z.array(z.string()),
      error: errorSchema.nullable(),
      meta: metaSchema,
    })
    .refine((envelope) => envelope.ok || envelope.error !== null, 'what is not ok has an error');

/** The one shape of everything on stdout with `--json`, and of every HTTP answer. */
export const envelopeSchema = envelopeOf(z.string(), z.unknown());
export type Envelope = z.output<typeof envelopeSchema>;

const gate = z.strictObject({
  name: z.enum(GATES),
  ok: z.boolean(),
  observed: z.string(),
  limit: z.string(),
  reason: z.string(),
});

const unknown = z.number().nullable();
const moment = z.iso.datetime();
const override = z.strictObject({ gate: z.enum(GATES), reason: z.string() });
const failure = z.strictObject({ code: z.string(), message: z.string(), remedy: z.string() });

const approval = z.strictObject({
  by: z.string(),
  role: z.string(),
  note: z.string(),
  at: moment,
  planHash: z.string(),
});

/** A switch that somebody asked for. */
export const requestSchema = z.strictObject({
  id: z.string(),
  to: z.enum(['blue', 'green']),
  state: z.enum(['waiting', 'running', 'done', 'cancelled', 'expired', 'failed']),
  by: z.string().nullable(),
  planHash: z.string(),
  requestedAt: moment,
  notBefore: moment.nullable(),
  window: z.string().nullable(),
  deadline: moment.nullable(),
  maxWritePauseMs: unknown,
  overrides: z.array(override).readonly(),
  outcome: z.enum(['switched', 'undone', 'undetermined']).nullable(),
  reason: z.string(),
  endedAt: moment.nullable(),
});

export const rehearsalSchema = z.strictObject({
  at: moment,
  ok: z.boolean(),
  planHash: z.string(),
  acts: z
    .array(z.strictObject({ name: z.string(), description: z.string(), ms: z.number(), detail: z.string() }))
    .readonly(),
  writePauseMs: unknown,
  backPauseMs: unknown,
  rows: z.int(),
  cleared: z.boolean(),
  error: failure.nullable(),
});

/** `data` of `status`. Numbers that are not known are null; so are the parts that only a running engine knows. */
export const statusSchema = z.strictObject({
  migration: z.string(),
  phase: z.enum(PHASES),
  condition: z.enum(['running', 'throttled', 'paused', 'blocked', 'error']),
  reason: z.string(),
  next: z.strictObject({ action: z.string(), command: z.string().nullable() }),
  activeSide: z.enum(['blue', 'green']),
  epoch: z.int(),
  planHash: z.string(),
  upSeconds: unknown,
  lag: z.strictObject({
    commitSeconds: unknown,
    distanceBytes: unknown,
    roundTripMs: unknown,
    lastEventAgeSeconds: unknown,
  }),
  copy: z
    .strictObject({
      rows: z.number(),
      totalRows: unknown,
      bytes: z.number(),
      rowsPerSecond: unknown,
      etaSeconds: z.tuple([z.number(), z.number()]).nullable(),
      rangesDone: z.int(),
      ranges: z.int(),
      finishing: z.string().nullable(),
    })
    .nullable(),
  tables: z.array(
    z.strictObject({
      table: z.string(),
      rows: z.number(),
      totalRows: unknown,
      rangesDone: z.int(),
      ranges: z.int(),
    }),
  ),
  apply: z
    .strictObject({
      transactions: z.number(),
      changes: z.number(),
      changesPerSecond: unknown,
      groups: z.number(),
      retries: z.number(),
      fallbacks: z.number(),
      queueBytes: z.number(),
      holes: z.number(),
      rejects: z.number(),
    })
    .nullable(),
  verify: z
    .strictObject({
      state: z.enum(['never', 'running', 'pass', 'fail', 'error']),
      rows: z.number(),
      totalRows: unknown,
      differences: z.number(),
      ageSeconds: unknown,
      etaSeconds: z.tuple([z.number(), z.number()]).nullable().optional(),
      detail: z.string().nullable(),
    })
    .nullable(),
  source: z
    .strictObject({
      state: z.string().nullable(),
      retainedBytes: unknown,
      limitBytes: unknown,
      oldestTransactionSeconds: unknown,
    })
    .nullable(),
  gates: z.array(gate),
  /** The window that is open, else the next one. */
  window: z
    .strictObject({
      name: z.string(),
      open: z.boolean(),
      opensAt: moment,
      closesAt: moment,
      timezone: z.string(),
    })
    .nullable(),
  approvals: z
    .strictObject({
      required: z.int(),
      roles: z.array(z.string()),
      counted: z.int(),
      given: z.array(approval.extend({ counts: z.boolean() })),
    })
    .nullable(),
  request: requestSchema.nullable(),
  rehearsal: rehearsalSchema.extend({ ageSeconds: z.number() }).nullable(),
  positions: z.strictObject({
    head: z.string().nullable(),
    received: z.string().nullable(),
    applied: z.string().nullable(),
  }),
  rollback: z
    .strictObject({
      wanted: z.boolean(),
      problems: z.array(z.string()),
      fits: z.boolean().nullable(),
      misfits: unknown,
      first: z
        .strictObject({
          table: z.string(),
          key: z.array(z.string().nullable()),
          column: z.string(),
          reason: z.string(),
        })
        .nullable(),
    })
    .nullable(),
  error: failure.nullable(),
});
export type StatusData = z.output<typeof statusSchema>;

const check = z.strictObject({
  id: z.string(),
  side: z.enum(['blue', 'green', 'proxy']),
  level: z.enum(['block', 'warn', 'info']),
  outcome: z.enum(['ok', 'finding', 'could-not-check']),
  title: z.string(),
  observed: z.string(),
  expected: z.string(),
  remedy: z.string(),
  sql: z.string().optional(),
});

export const planSchema = z.strictObject({
  hash: z.string(),
  migration: z.string(),
  blue: z.string(),
  green: z.string(),
  tables: z.array(
    z.strictObject({
      from: z.string(),
      rows: z.number(),
      bytes: z.number(),
      to: z.array(
        z.strictObject({
          table: z.string(),
          kind: z.enum(['identity', 'rename', 'reshape', 'split', 'merge', 'explode']),
          columns: z.array(
            z.strictObject({
              column: z.string(),
              from: z.array(z.string()),
              operation: z.string(),
              reverse: z.enum(['exact', 'lossy']),
              reason: z.string(),
            }),
          ),
        }),
      ),
    }),
  ),
  /** What comes back after the switch; null: no way back is wanted. */
  wayBack: z
    .strictObject({
      impossible: z.array(
        z.strictObject({ table: z.string(), column: z.string().nullable(), why: z.string() }),
      ),
      tables: z.array(
        z.strictObject({
          table: z.string(),
          from: z.array(z.string()),
          columns: z.array(
            z.strictObject({
              column: z.string(),
              way: z.enum(['exact', 'side-table', 'lossy']),
              from: z.array(z.string()),
              operation: z.string(),
              reason: z.string(),
            }),
          ),
        }),
      ),
      greenOnly: z.array(z.strictObject({ table: z.string(), column: z.string() })),
      fullImages: z.array(z.strictObject({ table: z.string(), why: z.string() })),
    })
    .nullable(),
  ignored: z.array(z.string()),
  onBlue: z.array(z.string()),
  onGreen: z.array(z.string()),
  atCutover: z.array(z.string()),
  warnings: z.array(z.string()),
  checks: z.array(check),
});

export const verifySchema = z.strictObject({
  ok: z.boolean(),
  mode: z.enum(['full', 'sample', 'recent']),
  rows: z.number(),
  seconds: z.number(),
  tables: z.array(
    z.strictObject({
      table: z.string(),
      rows: z.number(),
      differences: z.number(),
      unsettled: z.number(),
      method: z.enum(['server', 'mapped', 'rows', 'keys']),
      notCompared: z.array(z.strictObject({ column: z.string(), reason: z.string() })),
    }),
  ),
  mismatches: z.array(
    z.strictObject({
      table: z.string(),
      kind: z.enum(['missing', 'extra', 'different']),
      key: z.record(z.string(), z.string().nullable()),
      columns: z.array(z.string()),
      firstSeen: z.string(),
    }),
  ),
  notes: z.array(z.string()),
  /** Of a stored report. */
  endedAt: z.string().optional(),
});

export const repairSchema = z.strictObject({
  repaired: z.number(),
  refused: z.array(z.strictObject({ table: z.string(), differences: z.number(), reason: z.string() })),
  report: verifySchema,
});

export const cutoverSchema = z.strictObject({
  outcome: z.enum(['switched', 'undone', 'undetermined', 'dry-run']),
  writePauseMs: unknown,
  epoch: z.int(),
  to: z.enum(['blue', 'green']),
  steps: z.array(
    z.strictObject({
      name: z.string(),
      description: z.string(),
      pastPointOfNoReturn: z.boolean(),
      outcome: z.enum(['planned', 'ok', 'failed', 'undone', 'skipped']),
      ms: unknown,
      rehearsedMs: z.number().exactOptional(),
      detail: z.string(),
    }),
  ),
  /** Of a dry run: what the last rehearsal measured. */
  rehearsed: z.strictObject({ writePauseMs: z.number(), ageSeconds: z.number() }).nullable().exactOptional(),
  gates: z.array(gate),
  error: failure.nullable(),
});

export const eventSchema = z.strictObject({
  sequence: z.number(),
  at: z.string(),
  event: z.string(),
  detail: z.record(z.string(), z.unknown()),
});

/** `data` of `report`: the record of a run for the change ticket. */
export const reportSchema = z.strictObject({
  migration: z.string(),
  planHash: z.string(),
  phase: z.enum(PHASES),
  activeSide: z.enum(['blue', 'green']),
  epoch: z.int(),
  beganAt: z.string().nullable(),
  plans: z.array(z.strictObject({ planHash: z.string(), since: z.string() })),
  phases: z.array(z.strictObject({ phase: z.enum(PHASES), since: z.string(), seconds: unknown })),
  approvals: z.array(approval.extend({ void: z.boolean() })),
  rehearsal: rehearsalSchema.nullable(),
  verification: z
    .strictObject({
      mode: z.enum(['full', 'sample', 'recent']),
      state: z.enum(['running', 'pass', 'fail']),
      endedAt: z.string().nullable(),
      seconds: z.number(),
      rows: z.number(),
      differences: z.number(),
      unsettled: z.number(),
      tables: z.array(z.strictObject({ table: z.string(), rows: z.number(), differences: z.number() })),
    })
    .nullable(),
  attempts: z.array(
    z.strictObject({
      epoch: z.int(),
      request: z.string().nullable(),
      by: z.string().nullable(),
      beganAt: z.string(),
      endedAt: z.string().nullable(),
      outcome: z.enum(['switched', 'undone', 'undetermined']).nullable(),
      writePauseMs: unknown,
      maxWritePauseMs: unknown,
      gates: z.array(gate),
      overrides: z.array(override),
      steps: z.array(
        z.strictObject({
          step: z.string(),
          beganAt: z.string(),
          ms: unknown,
          outcome: z.enum(['ok', 'failed', 'begun']),
          detail: z.string(),
        }),
      ),
      certificate: z.record(z.string(), z.unknown()).nullable(),
      error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
    }),
  ),
  acts: z.array(
    z.strictObject({ at: z.string(), event: z.string(), detail: z.record(z.string(), z.unknown()) }),
  ),
});

export const ACTION_KINDS = [
  'pause',
  'resume',
  'verify',
  'repair',
  'rehearse',
  'approve',
  'revoke',
  'cutover',
  'cancel',
  'rollback',
  'recover',
  'abort',
  'finish',
] as const;
export type ActionKind = (typeof ACTION_KINDS)[number];

export const actionSchema = z.strictObject({
  id: z.string(),
  kind: z.enum(ACTION_KINDS),
  state: z.enum(['running', 'done', 'failed']),
  startedAt: z.iso.datetime(),
  result: z.unknown(),
  error: errorSchema.nullable(),
});
export type Action = z.output<typeof actionSchema>;

const done = z.strictObject({ done: z.boolean() });
const shown = z.strictObject({ path: z.string(), value: z.unknown(), origin: z.string() });

/** `data` by `kind`. */
export const DATA_SCHEMAS = {
  Action: actionSchema,
  Aborted: done,
  Approval: approval,
  Bench: benchSchema,
  ConfigCheck: z.strictObject({ file: z.string(), migration: z.string(), tables: z.int() }),
  Config: z.record(z.string(), z.unknown()),
  ConfigOrigins: z.array(shown),
  ConfigSchema: z.record(z.string(), z.unknown()),
  Cutover: cutoverSchema,
  CutoverRequest: requestSchema,
  Doctor: z.strictObject({ checks: z.array(check), blocking: z.int(), warnings: z.int() }),
  Error: z.null(),
  Event: eventSchema,
  Events: z.array(eventSchema),
  /** `report`: file with the record of the run. */
  Finished: done.extend({ report: z.string().nullable() }),
  Gates: z.array(gate),
  Health: z.strictObject({ ready: z.boolean(), reason: z.string() }),
  Help: z.strictObject({ text: z.string() }),
  Init: z.strictObject({ file: z.string(), tables: z.array(z.string()) }),
  Paused: done,
  Plan: planSchema,
  Recover: cutoverSchema.nullable(),
  Rehearsal: rehearsalSchema,
  Repair: repairSchema,
  Report: reportSchema,
  Resumed: done,
  Revoked: done,
  Rollback: cutoverSchema,
  Start: z.strictObject({ phase: z.enum(PHASES), activeSide: z.enum(['blue', 'green']) }),
  Status: statusSchema,
  Tables: statusSchema.shape.tables,
  TransformTest: z.strictObject({
    table: z.string(),
    rows: z.array(
      z.strictObject({
        before: z.record(z.string(), z.unknown()),
        after: z.array(z.strictObject({ table: z.string(), row: z.record(z.string(), z.unknown()) })),
        rejects: z.array(z.strictObject({ column: z.string(), reason: z.string() })),
      }),
    ),
  }),
  Verify: verifySchema,
  Version: z.strictObject({ version: z.string(), node: z.string(), engines: z.array(z.string()) }),
  Wait: z.strictObject({ condition: z.string(), seconds: z.number() }),
} as const satisfies Record<string, z.ZodType>;
export type Kind = keyof typeof DATA_SCHEMAS;

/** Checks a whole envelope, its data included. */
export function parseEnvelope(input: unknown): Envelope {
  const envelope = envelopeSchema.parse(input);
  const schema = (DATA_SCHEMAS as Record<string, z.ZodType>)[envelope.kind];
  if (!schema) throw new VerdigrisError('INTERNAL', `unknown kind ${envelope.kind}`);
  if (envelope.data !== null) schema.parse(envelope.data);
  return envelope;
}

export interface EnvelopeParts {
  readonly kind: Kind;
  readonly data: unknown;
  readonly error?: VerdigrisError | null;
  readonly warnings?: readonly string[];
  readonly migration: string | null;
  readonly version: string;
  /** What is masked in error texts. */
  readonly redactor: Redactor;
}

/** Builds the envelope. With an error it is not ok; data may stand beside it (a verification that found differences). */
export function envelope(parts: EnvelopeParts): Envelope {
  const { kind, data, error = null, warnings = [], migration, version, redactor } = parts;
  return {
    apiVersion: API_VERSION,
    kind,
    ok: error === null,
    data: data ?? null,
    warnings: warnings.map((warning) => redactor.text(warning)),
    error: error === null ? null : envelopeError(error, redactor),
    meta: { version, at: new Date().toISOString(), migration },
  };
}

export function envelopeError(error: VerdigrisError, redactor: Redactor): EnvelopeError {
  return {
    code: error.code,
    message: redactor.text(error.message),
    hint: redactor.text(error.remedy),
    docs: `docs/errors.md#${error.code.toLowerCase()}`,
    retryable: error.directive === 'retry',
    context: redactor.value(error.context) as Record<string, unknown>,
  };
}
