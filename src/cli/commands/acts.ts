import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createEngine, type VerifyReport } from '../../app/engine.ts';
import { repairSchema, reportSchema, statusSchema, verifySchema } from '../../app/envelope.ts';
import type { LoadedConfig } from '../../app/load.ts';
import { controlSocketPath } from '../../app/socket-path.ts';
import { readStored } from '../../app/stored.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { confirmAct, type ConfirmOptions } from '../confirm.ts';
import type { CommandContext, Outcome } from '../context.ts';
import { renderVerify } from '../render-reports.ts';
import { renderRunReport } from '../render-run-report.ts';
import { renderStatus } from '../render-status.ts';

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

export async function finish(
  context: CommandContext,
  options: EndOptions & { readonly report?: string },
): Promise<Outcome> {
  const record = reportSchema.safeParse(await end(context, 'finish', options));
  const done = 'Finished: our objects on both sides are gone. Green serves.';
  if (!record.success) return { kind: 'Finished', data: { done: true, report: null }, text: done };
  const { config } = await context.load();
  const file =
    options.report ??
    join(dirname(controlSocketPath(config, context.terminal.env)), `${config.migration}.report.md`);
  const text = renderRunReport(record.data);
  try {
    await writeFile(file, `${text}\n`);
  } catch (error) {
    // It is finished: the record must not be lost for want of a folder.
    const { code } = error as NodeJS.ErrnoException;
    const warnings = [`${file} cannot be written (${code}); this is the record of the run`];
    return { kind: 'Finished', data: { done: true, report: null }, text: `${text}\n${done}`, warnings };
  }
  return { kind: 'Finished', data: { done: true, report: file }, text: `${done} The record is in ${file}.` };
}

/** Through the running engine; where none runs, in this process: a run that cannot be started must still be ended. */
async function end(context: CommandContext, kind: 'abort' | 'finish', options: EndOptions): Promise<unknown> {
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
    const idempotencyKey = crypto.randomUUID();
    return client.act(kind, { ...confirmed, ...body, idempotencyKey }, context.timeoutMs);
  }
  return endHere(context, loaded, kind, question, options);
}

async function endHere(
  context: CommandContext,
  loaded: LoadedConfig,
  kind: 'abort' | 'finish',
  question: Omit<ConfirmOptions, 'show'>,
  options: EndOptions,
): Promise<unknown> {
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
  if (kind === 'abort') return migration.abort({ dropGreenData: false });
  return migration.finish({ keepState: options.keepState ?? false });
}
