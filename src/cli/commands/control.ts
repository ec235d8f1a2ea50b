import { writeFile } from 'node:fs/promises';
import {
  rehearsalSchema,
  reportSchema,
  requestSchema,
  statusSchema,
  DATA_SCHEMAS,
} from '../../app/envelope.ts';
import { readStoredReport } from '../../app/stored.ts';
import { CODES, VerdigrisError, type Code } from '../../core/errors.ts';
import { readPlanHash } from '../confirm.ts';
import type { CommandContext, Outcome } from '../context.ts';
import { renderRehearsal, renderRequest } from '../render-control.ts';
import { renderRunReport } from '../render-run-report.ts';
import { whoAsks } from '../who.ts';

export interface ApproveOptions {
  readonly as?: string;
  readonly by?: string;
  readonly note: string;
  readonly plan?: string;
}

/** Of the plan in force, or of the one in a file: then that has to be the plan in force. */
export async function approve(context: CommandContext, options: ApproveOptions): Promise<Outcome> {
  const client = context.client(await context.load());
  const current = statusSchema.parse((await client.get('/api/v1/status')).data);
  const body = {
    by: whoAsks(context, options.by),
    role: options.as ?? '',
    note: options.note,
    planHash: options.plan === undefined ? current.planHash : await readPlanHash(options.plan),
  };
  const approval = DATA_SCHEMAS.Approval.parse(await client.act('approve', body, context.timeoutMs));
  const after = statusSchema.parse((await client.get('/api/v1/status')).data);
  const gate = after.gates.find(({ name }) => name === 'approvals');
  const state = gate === undefined ? '' : ` Gate approvals: ${gate.ok ? 'open' : gate.reason}.`;
  return {
    kind: 'Approval',
    data: approval,
    text: `Approved by ${approval.by}${approval.role === '' ? '' : ` (${approval.role})`}: plan ${approval.planHash.slice(0, 8)}. It is void when the plan changes.${state}`,
  };
}

export async function approveRevoke(
  context: CommandContext,
  options: { readonly by?: string; readonly reason: string },
): Promise<Outcome> {
  const client = context.client(await context.load());
  const by = whoAsks(context, options.by);
  await client.act('revoke', { by, reason: options.reason }, context.timeoutMs);
  return { kind: 'Revoked', data: { done: true }, text: `The approval of ${by} is taken back.` };
}

export async function cutoverCancel(
  context: CommandContext,
  options: { readonly by?: string; readonly reason?: string },
): Promise<Outcome> {
  const client = context.client(await context.load());
  const body = {
    by: whoAsks(context, options.by),
    ...(options.reason === undefined ? {} : { reason: options.reason }),
  };
  const request = requestSchema.parse(await client.act('cancel', body, context.timeoutMs));
  return { kind: 'CutoverRequest', data: request, text: renderRequest(request) };
}

export async function rehearse(context: CommandContext): Promise<Outcome> {
  const client = context.client(await context.load());
  const rehearsal = rehearsalSchema.parse(await client.act('rehearse', {}, context.timeoutMs));
  const base = { kind: 'Rehearsal', data: rehearsal, text: renderRehearsal(rehearsal) } as const;
  const { error } = rehearsal;
  if (error === null) return base;
  const code: Code = Object.hasOwn(CODES, error.code) ? (error.code as Code) : 'INTERNAL';
  return {
    ...base,
    error: new VerdigrisError(code, `the rehearsal failed: ${error.message}`, { remedy: error.remedy }),
  };
}

export interface ReportOptions {
  readonly format: string;
  readonly out?: string;
}

/** From the running engine, else from what green remembers. */
export async function report(context: CommandContext, options: ReportOptions): Promise<Outcome> {
  const { format, out } = options;
  if (format !== 'markdown' && format !== 'json')
    throw new VerdigrisError('USAGE', '--format is markdown or json');
  const loaded = await context.load();
  const answered = await context.client(loaded).find('/api/v1/report');
  const found = answered?.data ?? (await readStoredReport(loaded, context.logger()));
  if (found === null) {
    throw new VerdigrisError('ENGINE_NOT_RUNNING', `green remembers no run of ${loaded.config.migration}`, {
      remedy: 'A run that was finished leaves its record only with `verdigris finish --keep-state`.',
    });
  }
  const data = reportSchema.parse(found);
  const text = format === 'json' ? JSON.stringify(data, null, 2) : renderRunReport(data);
  if (out === undefined) return { kind: 'Report', data, text };
  try {
    await writeFile(out, `${text}\n`);
  } catch (error) {
    throw new VerdigrisError('USAGE', `${out} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
  return { kind: 'Report', data, text: `Written to ${out}.` };
}
