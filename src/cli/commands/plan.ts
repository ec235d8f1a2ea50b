import { writeFile } from 'node:fs/promises';
import { VerdigrisError } from '../../core/errors.ts';
import { createEngine } from '../../app/engine.ts';
import { EXIT } from '../../app/exit.ts';
import { readStored } from '../../app/stored.ts';
import type { CommandContext, Outcome } from '../context.ts';
import { fixSql, isBlocking, renderChecks, renderPlan } from '../render-plan.ts';

export async function plan(
  context: CommandContext,
  options: { readonly out?: string; readonly exitCode?: boolean },
): Promise<Outcome> {
  const loaded = await context.load();
  const log = context.logger();
  await using engine = createEngine(loaded, { logger: log });
  const report = await engine.plan();
  if (options.out !== undefined) await writeFile(options.out, `${JSON.stringify(report, null, 2)}\n`);
  let exitCode: number = EXIT.done;
  if (options.exitCode) {
    const stored = await readStored(loaded, log);
    if (stored === null || stored.planHash !== report.hash || stored.phase === 'preparing')
      exitCode = EXIT.pending;
  }
  const file = options.out ?? 'plan.json';
  const next = report.checks.some(isBlocking)
    ? 'do what the checks say, then `verdigris doctor`'
    : options.out === undefined
      ? `\`verdigris plan --out ${file}\`, then \`verdigris start --plan ${file}\``
      : `\`verdigris start --plan ${file}\``;
  return { kind: 'Plan', data: report, text: renderPlan(report, next), warnings: report.warnings, exitCode };
}

export async function doctor(
  context: CommandContext,
  options: { readonly fixSql?: boolean },
): Promise<Outcome> {
  const loaded = await context.load();
  await using engine = createEngine(loaded, { logger: context.logger() });
  const checks = await engine.doctor();
  const blocking = checks.filter(isBlocking);
  const warnings = checks.filter((check) => check.outcome !== 'ok' && !isBlocking(check)).length;
  return {
    kind: 'Doctor',
    data: { checks, blocking: blocking.length, warnings },
    text: options.fixSql ? fixSql(checks) : renderChecks(checks, (context.options.verbose ?? 0) > 0),
    ...(blocking.length === 0
      ? {}
      : {
          error: new VerdigrisError(
            'PREFLIGHT_FAILED',
            `${blocking.length} checks would make the migration fail: ${[...new Set(blocking.map(({ id }) => id))].join(', ')}`,
          ),
        }),
  };
}
