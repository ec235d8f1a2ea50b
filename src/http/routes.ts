import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { z } from 'zod';
import { ACTION_KINDS, envelope, type ActionKind, type Kind } from '../app/envelope.ts';
import type { Migration, VerdigrisEngine } from '../app/engine.ts';
import type { Redactor } from '../app/redact.ts';
import { VERSION } from '../app/version.ts';
import { asVerdigrisError, VerdigrisError, type Code } from '../core/errors.ts';
import { GATES, showGate } from '../core/gate.ts';
import { ActionBook } from './actions.ts';

/** What of an engine is reached over HTTP. */
export type ControlledEngine = Pick<VerdigrisEngine, 'name' | 'migration' | 'status' | 'plan' | 'events'>;

export interface RouteOptions {
  readonly engine: ControlledEngine;
  readonly redactor: Redactor;
}

const scope = z.enum(['copy', 'apply', 'all']).default('all');
const confirmed = { planHash: z.string().optional(), confirm: z.string().optional() };
const who = z.string().min(1).max(200);
const key = { idempotencyKey: z.string().min(1).max(200).optional() };

/** A switch or a rollback. */
const turn = {
  ...key,
  ...confirmed,
  by: who.optional(),
  dryRun: z.boolean().default(false),
  maxWritePauseMs: z.number().positive().optional(),
  overrides: z.array(z.strictObject({ gate: z.enum(GATES), reason: z.string().min(1) })).default([]),
};

const BODIES = {
  pause: z.strictObject({ ...key, scope, reason: z.string().max(500).default('') }),
  resume: z.strictObject({ ...key, scope }),
  verify: z.strictObject({
    ...key,
    mode: z.enum(['full', 'sample', 'recent']).default('full'),
    tables: z.array(z.string()).optional(),
    maxRowsPerSecond: z.number().positive().nullable().optional(),
  }),
  repair: z.strictObject({ ...key, tables: z.array(z.string()).optional() }),
  cutover: z.strictObject({
    ...turn,
    /** Not now: from a moment on, in a window, or as soon as every gate is open within this time. */
    at: z.string().optional(),
    window: z.string().optional(),
    waitMs: z.number().positive().optional(),
  }),
  rollback: z.strictObject(turn),
  recover: z.strictObject(key),
  rehearse: z.strictObject({ ...key }),
  approve: z.strictObject({
    ...key,
    by: who,
    role: z.string().max(60).default(''),
    note: z.string().max(500).default(''),
    planHash: z.string(),
  }),
  revoke: z.strictObject({ ...key, by: who, reason: z.string().max(500).default('') }),
  cancel: z.strictObject({ ...key, by: who.optional(), reason: z.string().max(500).optional() }),
  abort: z.strictObject({ ...key, ...confirmed }),
  finish: z.strictObject({ ...key, ...confirmed, keepState: z.boolean().default(false) }),
} as const;

const STATUS_OF: Partial<Record<Code, ContentfulStatusCode>> = {
  USAGE: 400,
  CONFIRMATION: 400,
  CUTOVER_GATE: 409,
  CUTOVER_PHASE: 409,
  PLAN_STALE: 412,
};

// A stream that has been silent for longer than this is stalled: marks come back every few seconds on an idle database too.
const STALLED_SECONDS = 60;
const LONGEST_WAIT_SECONDS = 30;
const LARGEST_BODY = 64 * 1024;

export interface Routes {
  readonly app: Hono;
  readonly actions: ActionBook;
}

/** The control API. Reads are GET; every act is a POST that answers 202 with an action to look at. */
export function createRoutes({ engine, redactor }: RouteOptions): Routes {
  const app = new Hono();
  const actions = new ActionBook(redactor);

  const answer = (
    c: Context,
    kind: Kind,
    data: unknown,
    status: ContentfulStatusCode = 200,
    warnings: string[] = [],
  ) => c.json(envelope({ kind, data, warnings, migration: engine.name, version: VERSION, redactor }), status);

  const failure = (c: Context, thrown: unknown) => {
    const error = asVerdigrisError(thrown);
    const body = envelope({
      kind: 'Error',
      data: null,
      error,
      migration: engine.name,
      version: VERSION,
      redactor,
    });
    return c.json(body, STATUS_OF[error.code] ?? 500);
  };

  app.onError((error, c) => failure(c, error));
  app.notFound((c) => {
    const error = new VerdigrisError('USAGE', `there is no ${c.req.method} ${c.req.path}`);
    const body = envelope({
      kind: 'Error',
      data: null,
      error,
      migration: engine.name,
      version: VERSION,
      redactor,
    });
    return c.json(body, 404);
  });
  // A page in a browser is never a legal caller of this API; without this one could be made to act for its user.
  app.use('/api/v1/actions/*', async (c, next) => {
    if (c.req.method === 'POST' && (c.req.header('origin') ?? c.req.header('sec-fetch-site')) !== undefined) {
      throw new VerdigrisError('USAGE', 'requests of web pages are refused');
    }
    await next();
  });
  app.use('/api/v1/actions/*', bodyLimit({ maxSize: LARGEST_BODY }));

  app.get('/healthz', (c) => answer(c, 'Health', { ready: true, reason: '' }));
  app.get('/readyz', async (c) => {
    const { condition, reason, phase, lag } = await engine.status();
    const stalled = lag.lastEventAgeSeconds !== null && lag.lastEventAgeSeconds > STALLED_SECONDS;
    const problem =
      condition === 'error' || condition === 'blocked'
        ? reason
        : phase === 'undetermined'
          ? 'it is not known which side serves'
          : stalled
            ? `nothing was received for ${Math.round(lag.lastEventAgeSeconds ?? 0)} s`
            : null;
    return answer(
      c,
      'Health',
      { ready: problem === null, reason: problem ?? '' },
      problem === null ? 200 : 503,
    );
  });
  app.get('/api/v1/status', async (c) => answer(c, 'Status', await engine.status()));
  app.get('/api/v1/plan', async (c) => answer(c, 'Plan', await engine.plan()));
  app.get('/api/v1/tables', async (c) => answer(c, 'Tables', (await engine.status()).tables));
  app.get('/api/v1/gates', async (c) => answer(c, 'Gates', (await engine.status()).gates));
  app.get('/api/v1/report', async (c) => answer(c, 'Report', await (await engine.migration()).report()));
  app.get('/api/v1/verify', async (c) => {
    const last = await (await engine.migration()).verification();
    if (last !== null) return answer(c, 'Verify', last);
    const { state, detail } = (await engine.status()).verify;
    return answer(c, 'Verify', null, 200, [
      `no round has ended yet; state: ${state}${detail === null ? '' : `, ${detail}`}`,
    ]);
  });
  app.get('/api/v1/journal', async (c) => {
    const query = z
      .object({
        after: z.coerce.number().int().min(0).default(0),
        limit: z.coerce.number().int().min(1).max(1000).default(500),
      })
      .safeParse(c.req.query());
    if (!query.success) throw new VerdigrisError('USAGE', 'journal takes after= and limit= (1 to 1000)');
    return answer(c, 'Events', await engine.events(query.data.after, query.data.limit));
  });

  app.get('/api/v1/actions/:id', async (c) => {
    const wait = Number(c.req.query('wait') ?? 0);
    const seconds = Number.isFinite(wait) ? Math.min(Math.max(wait, 0), LONGEST_WAIT_SECONDS) : 0;
    const action = await actions.read(c.req.param('id'), seconds * 1_000);
    if (action) return answer(c, 'Action', action);
    return c.notFound();
  });

  app.post('/api/v1/actions/:kind', async (c) => {
    const kind = ACTION_KINDS.find((known) => known === c.req.param('kind'));
    if (!kind) return c.notFound();
    return answer(c, 'Action', await act(kind, await readBody(c)), 202);
  });

  async function act(kind: ActionKind, body: unknown) {
    const migration = await engine.migration();
    switch (kind) {
      case 'pause': {
        const { idempotencyKey, ...pause } = parse(kind, body, BODIES.pause);
        return actions.begin(kind, idempotencyKey, () => migration.pause(pause.scope, pause.reason));
      }
      case 'resume': {
        const resume = parse(kind, body, BODIES.resume);
        return actions.begin(kind, resume.idempotencyKey, () => migration.resume(resume.scope));
      }
      case 'verify': {
        const { idempotencyKey, mode, tables, maxRowsPerSecond } = parse(kind, body, BODIES.verify);
        return actions.begin(kind, idempotencyKey, () =>
          migration.verify({
            mode,
            ...(tables === undefined ? {} : { tables }),
            ...(maxRowsPerSecond === undefined ? {} : { maxRowsPerSecond }),
          }),
        );
      }
      case 'repair': {
        const { idempotencyKey, tables } = parse(kind, body, BODIES.repair);
        return actions.begin(kind, idempotencyKey, () =>
          migration.repair(tables === undefined ? {} : { tables }),
        );
      }
      case 'rollback': {
        const { idempotencyKey, planHash, confirm, by, maxWritePauseMs, ...request } = parse(
          kind,
          body,
          BODIES.rollback,
        );
        const known = actions.find(idempotencyKey);
        if (!known && !request.dryRun) {
          await checkConfirmed(kind, { planHash, confirm });
          await checkGates(request.overrides.map(({ gate }) => gate));
        }
        return actions.begin(kind, idempotencyKey, () =>
          migration.rollback({
            ...request,
            ...(by === undefined ? {} : { by }),
            ...(maxWritePauseMs === undefined ? {} : { maxWritePauseMs }),
          }),
        );
      }
      case 'recover': {
        // It decides nothing by itself: the fence records have.
        const { idempotencyKey } = parse(kind, body, BODIES.recover);
        return actions.begin(kind, idempotencyKey, () => migration.recover());
      }
      case 'rehearse': {
        const { idempotencyKey } = parse(kind, body, BODIES.rehearse);
        return actions.begin(kind, idempotencyKey, () => migration.rehearse());
      }
      case 'approve': {
        const { idempotencyKey, ...approval } = parse(kind, body, BODIES.approve);
        return actions.begin(kind, idempotencyKey, () => migration.approve(approval));
      }
      case 'revoke': {
        const { idempotencyKey, ...revoke } = parse(kind, body, BODIES.revoke);
        return actions.begin(kind, idempotencyKey, () => migration.revoke(revoke));
      }
      case 'cancel': {
        const { idempotencyKey, by, reason } = parse(kind, body, BODIES.cancel);
        return actions.begin(kind, idempotencyKey, () =>
          migration.cancel({
            ...(by === undefined ? {} : { by }),
            ...(reason === undefined ? {} : { reason }),
          }),
        );
      }
      case 'cutover':
        return beginCutover(migration, body);
      case 'abort': {
        const { idempotencyKey, ...rest } = parse(kind, body, BODIES.abort);
        if (!actions.find(idempotencyKey)) await checkConfirmed(kind, rest);
        return actions.begin(kind, idempotencyKey, () => migration.abort({ dropGreenData: false }));
      }
      case 'finish': {
        const { idempotencyKey, keepState, ...rest } = parse(kind, body, BODIES.finish);
        if (!actions.find(idempotencyKey)) await checkConfirmed(kind, rest);
        return actions.begin(kind, idempotencyKey, () => migration.finish({ keepState }));
      }
    }
  }

  async function beginCutover(migration: Migration, body: unknown) {
    const { idempotencyKey, planHash, confirm, at, window, waitMs, dryRun, ...given } = parse(
      'cutover',
      body,
      BODIES.cutover,
    );
    const { by, maxWritePauseMs, overrides } = given;
    const ask = {
      overrides,
      ...(by === undefined ? {} : { by }),
      ...(maxWritePauseMs === undefined ? {} : { maxWritePauseMs }),
    };
    const now = at === undefined && window === undefined && waitMs === undefined;
    if (dryRun && !now) throw new VerdigrisError('USAGE', 'a dry run shows the switch as it would be now');
    if (!actions.find(idempotencyKey) && !dryRun) {
      await checkConfirmed('cutover', { planHash, confirm });
      // Who may start now, and whose approvals count, is for the run to say; this only saves an act that cannot begin.
      if (now) await checkGates(overrides.map(({ gate }) => gate));
    }
    return actions.begin('cutover', idempotencyKey, () =>
      now ? migration.cutover({ dryRun, ...ask }) : migration.schedule({ at, window, waitMs, ...ask }),
    );
  }

  // Against the plan in force, not a new one: what this engine will switch is what it was started with.
  async function checkConfirmed(
    kind: ActionKind,
    given: { planHash?: string | undefined; confirm?: string | undefined },
  ): Promise<void> {
    if (given.confirm !== engine.name || given.planHash === undefined) {
      throw new VerdigrisError(
        'CONFIRMATION',
        `${kind} needs confirm (the name of the migration) and planHash`,
      );
    }
    const { planHash } = await engine.status();
    if (planHash !== given.planHash) {
      throw new VerdigrisError(
        'PLAN_STALE',
        `the plan in force is ${planHash.slice(0, 8)}, not ${given.planHash.slice(0, 8)}`,
        {
          context: { current: planHash, named: given.planHash },
        },
      );
    }
  }

  async function checkGates(overridden: readonly string[]): Promise<void> {
    const { gates } = await engine.status();
    const shut = gates.filter(({ name, ok }) => !ok && !overridden.includes(name));
    if (shut.length === 0) return;
    throw new VerdigrisError(
      'CUTOVER_GATE',
      `${shut.length} gates are shut; nothing was changed.\n  ${shut.map(showGate).join('\n  ')}`,
      {
        context: { gates: shut },
      },
    );
  }

  return { app, actions };
}

async function readBody(c: Context): Promise<unknown> {
  const text = await c.req.text();
  if (text === '') return {};
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new VerdigrisError('USAGE', 'the body is not JSON');
  }
}

function parse<Schema extends z.ZodType>(kind: ActionKind, body: unknown, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const wrong = result.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`);
  throw new VerdigrisError('USAGE', `${kind}: ${wrong.join('; ')}`);
}
