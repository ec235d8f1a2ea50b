import { createEngine, type CutoverReport } from '../../app/engine.ts';
import { cutoverSchema, requestSchema, statusSchema } from '../../app/envelope.ts';
import { EXIT } from '../../app/exit.ts';
import { CODES, VerdigrisError, type Code } from '../../core/errors.ts';
import { GATES, type GateName } from '../../core/gate.ts';
import { confirmAct } from '../confirm.ts';
import { durationOption, type CommandContext, type Outcome } from '../context.ts';
import { renderRequest } from '../render-control.ts';
import { renderCutover } from '../render-reports.ts';
import { whoAsks } from '../who.ts';

export interface CutoverOptions extends TurnOptions {
  readonly at?: string;
  readonly window?: string;
  readonly wait?: string;
}

export interface TurnOptions {
  readonly by?: string;
  readonly dryRun?: boolean;
  readonly plan?: string;
  readonly confirm?: string;
  readonly maxWritePause?: string;
  readonly override?: readonly string[];
}

export async function cutover(context: CommandContext, options: CutoverOptions): Promise<Outcome> {
  const when = {
    ...(options.at === undefined ? {} : { at: options.at }),
    ...(options.window === undefined ? {} : { window: options.window }),
    ...(options.wait === undefined ? {} : { waitMs: durationOption('--wait', options.wait) }),
  };
  if (Object.keys(when).length === 0) return turn(context, 'cutover', options);
  if (options.dryRun) {
    throw new VerdigrisError(
      'USAGE',
      '--dry-run shows the switch as it would be now: without --at, --window, --wait',
    );
  }
  return turn(context, 'cutover', options, when);
}

export const rollback = (context: CommandContext, options: TurnOptions): Promise<Outcome> =>
  turn(context, 'rollback', options);

const ACTS = {
  cutover: { kind: 'Cutover', asks: 'switch to green' },
  rollback: { kind: 'Rollback', asks: 'go back to blue' },
} as const;

/** @param when it shall begin by itself; absent: now */
async function turn(
  context: CommandContext,
  act: keyof typeof ACTS,
  options: TurnOptions,
  when?: Readonly<Record<string, unknown>>,
): Promise<Outcome> {
  const { kind, asks } = ACTS[act];
  const loaded = await context.load();
  const client = context.client(loaded);
  const body = {
    by: whoAsks(context, options.by),
    ...(options.maxWritePause === undefined
      ? {}
      : { maxWritePauseMs: durationOption('--max-write-pause', options.maxWritePause) }),
    overrides: (options.override ?? []).map(parseOverride),
  };
  const ask = async (more: object): Promise<CutoverReport> =>
    cutoverSchema.parse(await client.act(act, { ...body, ...more }, context.timeoutMs));
  if (options.dryRun) {
    const report = await ask({ dryRun: true });
    const shut = report.gates.filter(
      ({ ok, name }) => !ok && !body.overrides.some(({ gate }) => gate === name),
    );
    return {
      kind,
      data: report,
      text: renderCutover(report),
      exitCode: shut.length === 0 ? EXIT.done : EXIT.gate,
    };
  }
  const confirmed = await confirmAct(context, {
    act: when === undefined ? asks : `let it ${asks} by itself`,
    migration: loaded.config.migration,
    confirm: options.confirm,
    plan: options.plan,
    show: async () => {
      const { planHash } = statusSchema.parse((await client.get('/api/v1/status')).data);
      return { text: renderCutover(await ask({ dryRun: true })), planHash };
    },
  });
  const idempotencyKey = crypto.randomUUID();
  if (when === undefined) return outcomeOf(kind, await ask({ ...confirmed, idempotencyKey }));
  const request = requestSchema.parse(
    await client.act(act, { ...body, ...when, ...confirmed, idempotencyKey }, context.timeoutMs),
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

function outcomeOf(kind: 'Cutover' | 'Rollback' | 'Recover', report: CutoverReport): Outcome {
  const base = { kind, data: report, text: renderCutover(report) } as const;
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

/** Through the running engine; where none runs, in this process. */
export async function recover(
  context: CommandContext,
  options: { readonly takeover?: boolean },
): Promise<Outcome> {
  const loaded = await context.load();
  const client = context.client(loaded);
  if (await client.find('/api/v1/status')) {
    return recovered(cutoverSchema.nullable().parse(await client.act('recover', {}, context.timeoutMs)));
  }
  await using engine = createEngine(loaded, {
    logger: context.logger(),
    takeover: options.takeover ?? false,
  });
  return recovered(await engine.recover());
}

function recovered(report: CutoverReport | null): Outcome {
  if (report === null) {
    const text = 'Nothing was interrupted: there is nothing to recover.';
    return { kind: 'Recover', data: null, text };
  }
  const outcome = outcomeOf('Recover', report);
  // To be undone is what a recovery is for: the side that served serves.
  if (report.outcome !== 'undone') return outcome;
  const { error: _, ...done } = outcome;
  return done;
}
