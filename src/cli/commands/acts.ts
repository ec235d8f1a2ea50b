import { createEngine, type CutoverReport, type VerifyReport } from '../../app/engine.ts';
import {
  cutoverSchema,
  repairSchema,
  requestSchema,
  statusSchema,
  verifySchema,
} from '../../app/envelope.ts';
import { EXIT } from '../../app/exit.ts';
import type { LoadedConfig } from '../../app/load.ts';
import { readStored } from '../../app/stored.ts';
import { CODES, VerdigrisError, type Code } from '../../core/errors.ts';
import { GATES, type GateName } from '../../core/gate.ts';
import { confirmAct, type ConfirmOptions } from '../confirm.ts';
import { durationOption, type CommandContext, type Outcome } from '../context.ts';
import { renderCutover, renderVerify } from '../render-reports.ts';
import { renderRequest } from '../render-control.ts';
import { renderStatus } from '../render-status.ts';
import { whoAsks } from '../who.ts';

const SCOPES = ['copy', 'apply', 'all'];

function scopeOption(scope: string): string {
  if (!SCOPES.includes(scope)) throw new VerdigrisError('USAGE', `--scope is one of ${SCOPES.join(', ')}`);
  return scope;
}

export async function pause(
  context: CommandContext,
  options: { readonly scope: string; readonly reason: string },
): Promise<Outcome> {
  const scope = scopeOption(options.scope);
  const client = context.client(await context.load());
  await client.act('pause', { scope, reason: options.reason }, context.timeoutMs);
  return {
    kind: 'Paused',
    data: { done: true },
    text: `Paused: ${scope}. Next: \`verdigris resume\`; blue keeps its log for us until then.`,
  };
}

export async function resume(context: CommandContext, options: { readonly scope: string }): Promise<Outcome> {
  const scope = scopeOption(options.scope);
  const client = context.client(await context.load());
  await client.act('resume', { scope }, context.timeoutMs);
  return { kind: 'Resumed', data: { done: true }, text: `Resumed: ${scope}.` };
}

export interface VerifyOptions {
  readonly tables?: readonly string[];
  readonly mode: string;
  readonly maxRowsPerSec?: string;
}

export async function verify(context: CommandContext, options: VerifyOptions): Promise<Outcome> {
  const { mode, tables, maxRowsPerSec } = options;
  if (!['full', 'sample', 'recent'].includes(mode))
    throw new VerdigrisError('USAGE', '--mode is full, sample or recent');
  const rate = maxRowsPerSec === undefined ? undefined : Number(maxRowsPerSec);
  if (rate !== undefined && !(rate > 0))
    throw new VerdigrisError('USAGE', '--max-rows-per-sec is a number above 0');
  const client = context.client(await context.load());
  const body = {
    mode,
    ...(tables === undefined ? {} : { tables }),
    ...(rate === undefined ? {} : { maxRowsPerSecond: rate }),
  };
  return verifyOutcome(verifySchema.parse(await client.act('verify', body, context.timeoutMs)));
}

export async function verifyRepair(
  context: CommandContext,
  options: { readonly tables?: readonly string[] },
): Promise<Outcome> {
  const client = context.client(await context.load());
  const body = options.tables === undefined ? {} : { tables: options.tables };
  const result = repairSchema.parse(await client.act('repair', body, context.timeoutMs));
  const text = [
    `Repaired: ${result.repaired}.`,
    ...result.refused.map(({ table, differences, reason }) => `  not ${table} (${differences}): ${reason}`),
    renderVerify(result.report as VerifyReport),
  ].join('\n');
  const left = verifyOutcome(result.report as VerifyReport);
  return { ...left, kind: 'Repair', data: result, text };
}

export async function verifyShow(context: CommandContext): Promise<Outcome> {
  const answered = await context.client(await context.load()).get('/api/v1/verify');
  if (answered.data !== null) return verifyOutcome(verifySchema.parse(answered.data));
  return {
    kind: 'Verify',
    data: null,
    text: 'There is no report yet: run `verdigris verify`.',
    warnings: answered.warnings,
  };
}

function verifyOutcome(report: VerifyReport): Outcome {
  const text = renderVerify(report);
  if (report.ok) return { kind: 'Verify', data: report, text };
  const different = report.tables.filter(({ differences }) => differences > 0).map(({ table }) => table);
  return {
    kind: 'Verify',
    data: report,
    text,
    error: new VerdigrisError('VERIFY_DIFFERENT', `blue and green differ: ${different.join(', ')}`),
  };
}

export interface CutoverOptions {
  readonly at?: string;
  readonly window?: string;
  readonly wait?: string;
  readonly by?: string;
  readonly dryRun?: boolean;
  readonly plan?: string;
  readonly confirm?: string;
  readonly maxWritePause?: string;
  readonly override?: readonly string[];
}

export async function cutover(context: CommandContext, options: CutoverOptions): Promise<Outcome> {
  const loaded = await context.load();
  const client = context.client(loaded);
  const when = {
    ...(options.at === undefined ? {} : { at: options.at }),
    ...(options.window === undefined ? {} : { window: options.window }),
    ...(options.wait === undefined ? {} : { waitMs: durationOption('--wait', options.wait) }),
  };
  const waits = Object.keys(when).length > 0;
  if (waits && options.dryRun)
    throw new VerdigrisError(
      'USAGE',
      '--dry-run shows the switch as it would be now: without --at, --window, --wait',
    );
  const body = {
    by: whoAsks(context, options.by),
    ...(options.maxWritePause === undefined
      ? {}
      : { maxWritePauseMs: durationOption('--max-write-pause', options.maxWritePause) }),
    overrides: (options.override ?? []).map(parseOverride),
  };
  const act = async (more: object): Promise<CutoverReport> =>
    cutoverSchema.parse(await client.act('cutover', { ...body, ...more }, context.timeoutMs));
  if (options.dryRun) {
    const report = await act({ dryRun: true });
    const shut = report.gates.filter(
      ({ ok, name }) => !ok && !body.overrides.some(({ gate }) => gate === name),
    );
    return {
      kind: 'Cutover',
      data: report,
      text: renderCutover(report),
      exitCode: shut.length === 0 ? EXIT.done : EXIT.gate,
    };
  }
  const confirmed = await confirmAct(context, {
    act: waits ? 'let it switch to green by itself' : 'switch to green',
    migration: loaded.config.migration,
    confirm: options.confirm,
    plan: options.plan,
    show: async () => {
      const { planHash } = statusSchema.parse((await client.get('/api/v1/status')).data);
      return { text: renderCutover(await act({ dryRun: true })), planHash };
    },
  });
  const idempotencyKey = crypto.randomUUID();
  if (!waits) return cutoverOutcome(await act({ ...confirmed, idempotencyKey }));
  const request = requestSchema.parse(
    await client.act('cutover', { ...body, ...when, ...confirmed, idempotencyKey }, context.timeoutMs),
  );
  return { kind: 'CutoverRequest', data: request, text: renderRequest(request) };
}

function parseOverride(text: string): { gate: GateName; reason: string } {
  const cut = text.indexOf('=');
  const gate = GATES.find((name) => name === text.slice(0, cut));
  const reason = text.slice(cut + 1).trim();
  if (cut < 1 || !gate || reason === '')
    throw new VerdigrisError('USAGE', '--override needs GATE=REASON', {
      remedy: `Gates: ${GATES.join(', ')}`,
    });
  return { gate, reason };
}

const OUTCOME_CODES = { undone: 'CUTOVER_UNDONE', undetermined: 'CUTOVER_UNDETERMINED' } as const;

function cutoverOutcome(report: CutoverReport): Outcome {
  const base = { kind: 'Cutover', data: report, text: renderCutover(report) } as const;
  const { outcome, error } = report;
  if (outcome === 'switched' || outcome === 'dry-run') return base;
  // A gate that shut in the last moment changed nothing; everything else that was undone has its own exit code.
  const code: Code = error?.code === 'CUTOVER_GATE' ? 'CUTOVER_GATE' : OUTCOME_CODES[outcome];
  const message = error
    ? error.code === code
      ? error.message
      : `${error.code}: ${error.message}`
    : CODES[code].meaning;
  return {
    ...base,
    error: new VerdigrisError(code, message, { remedy: error?.remedy ?? CODES[code].remedy }),
  };
}

export interface EndOptions {
  readonly plan?: string;
  readonly confirm?: string;
  readonly keepState?: boolean;
}

export async function abort(context: CommandContext, options: EndOptions): Promise<Outcome> {
  await end(context, 'abort', options);
  return {
    kind: 'Aborted',
    data: { done: true },
    text: 'Aborted: our objects on blue and our state on green are gone; the copied rows stay. Blue serves as before.',
  };
}

export async function finish(context: CommandContext, options: EndOptions): Promise<Outcome> {
  await end(context, 'finish', options);
  return {
    kind: 'Finished',
    data: { done: true },
    text: 'Finished: our objects on both sides are gone. Green serves.',
  };
}

/** Through the running engine; where none runs, in this process: a run that cannot be started must still be ended. */
async function end(context: CommandContext, kind: 'abort' | 'finish', options: EndOptions): Promise<void> {
  const loaded = await context.load();
  const client = context.client(loaded);
  const running = await client.find('/api/v1/status');
  const question = {
    act: kind,
    migration: loaded.config.migration,
    confirm: options.confirm,
    plan: options.plan,
  };
  const body = kind === 'abort' ? {} : { keepState: options.keepState ?? false };
  if (running) {
    const current = statusSchema.parse(running.data);
    const confirmed = await confirmAct(context, {
      ...question,
      show: () => Promise.resolve({ text: renderStatus(current), planHash: current.planHash }),
    });
    await client.act(kind, { ...confirmed, ...body, idempotencyKey: crypto.randomUUID() }, context.timeoutMs);
    return;
  }
  await endHere(context, loaded, kind, question, options);
}

async function endHere(
  context: CommandContext,
  loaded: LoadedConfig,
  kind: 'abort' | 'finish',
  question: Omit<ConfirmOptions, 'show'>,
  options: EndOptions,
): Promise<void> {
  const log = context.logger();
  const record = await readStored(loaded, log);
  if (record === null) {
    throw new VerdigrisError(
      'ENGINE_NOT_RUNNING',
      `no engine runs and green remembers no run of ${loaded.config.migration}`,
      {
        remedy: 'There is nothing to end.',
      },
    );
  }
  const confirmed = await confirmAct(context, {
    ...question,
    show: () =>
      Promise.resolve({
        text: `${loaded.config.migration}: phase ${record.phase}, no engine runs`,
        planHash: record.planHash,
      }),
  });
  if (confirmed.planHash !== record.planHash) {
    throw new VerdigrisError(
      'PLAN_STALE',
      `the plan in force is ${record.planHash.slice(0, 8)}, not ${confirmed.planHash.slice(0, 8)}`,
    );
  }
  await using engine = createEngine(loaded, { logger: log });
  const migration = await engine.migration();
  if (kind === 'abort') await migration.abort({ dropGreenData: false });
  else await migration.finish({ keepState: options.keepState ?? false });
}
