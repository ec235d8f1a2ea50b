import type { Session } from '../core/engine.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { WriteFence } from '../core/fence.ts';
import type { Logger } from '../core/log.ts';
import type { CheckResult } from '../core/preflight.ts';
import type { Sink } from '../core/sink.ts';
import type { ChangeSource } from '../core/source.ts';
import { showTable } from '../core/table.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import type { Compiled } from './compiled.ts';

/** Applier, chunk of a key that is read again, slot, state. */
const BACK_CONNECTIONS = 6;

/** Locks of the fence are taken on tables that nobody else uses yet. */
const GREEN_FENCE_TIMEOUT_MS = 10_000;

export interface Preparation {
  readonly compiled: Compiled;
  readonly blue: Session;
  readonly green: Session;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly pipeline: Pipeline;
  readonly greenFence: WriteFence;
  readonly connections: number;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  readonly note: (event: string, detail: Readonly<Record<string, unknown>>) => Promise<void>;
}

/** All checks of both sides, as `plan` and `doctor` show them. */
export async function preflight(options: {
  readonly compiled: Compiled;
  readonly blue: Session;
  readonly green: Session;
  readonly connections: number;
  readonly fresh: boolean;
}): Promise<readonly CheckResult[]> {
  const { compiled, blue, green, connections, fresh } = options;
  const [source, sink] = await Promise.all([
    blue.preflight({
      role: 'source',
      tables: compiled.sources.map((relation) => relation.table),
      needsFullImages: compiled.needsFullImages,
      targets: [],
      connections,
      fresh: false,
    }),
    green.preflight({
      role: 'sink',
      tables: compiled.targets.map((target) => target.relation.table),
      needsFullImages: [],
      targets: compiled.missingTargets ? [] : compiled.targets,
      connections,
      fresh,
    }),
  ]);
  return [...source, ...sink];
}

/**
 * The checks of blue as the side that is written, for the way back; whether green's log can be read is asked with the others. What blocks
 * here shuts a gate of the switch and is no reason not to copy.
 */
export async function preflightBack(compiled: Compiled, blue: Session): Promise<readonly CheckResult[]> {
  if (compiled.back === null) return [];
  const checks = await blue.preflight({
    role: 'sink',
    tables: compiled.sources.map((relation) => relation.table),
    needsFullImages: [],
    targets: [],
    connections: BACK_CONNECTIONS,
    fresh: false,
  });
  return checks.filter((check) => check.level === 'block' && check.outcome !== 'ok');
}

/** @throws VerdigrisError PREFLIGHT_FAILED with every blocking finding */
export function requirePassed(checks: readonly CheckResult[]): void {
  const blocking = checks.filter((check) => check.level === 'block' && check.outcome !== 'ok');
  if (blocking.length === 0) return;
  const lines = blocking.map((check) => {
    const sql = check.sql === undefined ? '' : ` Run: ${check.sql}`;
    return `${check.id} ${check.side}: ${check.title}: ${check.observed} (expected ${check.expected}). ${check.remedy}${sql}`;
  });
  throw new VerdigrisError(
    'PREFLIGHT_FAILED',
    `${blocking.length} of the checks before the start block it:\n  ${lines.join('\n  ')}`,
    {
      context: { checks: blocking.map((check) => check.id) },
    },
  );
}

/**
 * Makes everything a copy needs on both sides. Each step finds what an earlier, killed attempt has made. The log is kept from
 * before the first range is read, and the first checkpoint is written before anything else stands on green.
 */
export async function prepare(run: Preparation): Promise<void> {
  const { compiled, blue, green, source, sink, failpoints } = run;
  const fresh = (await sinkCheckpoint(sink, compiled)) === null;
  requirePassed(await preflight({ compiled, blue, green, connections: run.connections, fresh }));
  await failpoints.hit('prepare.after-preflight');

  const start = await source.prepare(compiled.sources);
  await run.note('source.prepared', { start });
  await failpoints.hit('prepare.after-source');

  await sink.prepare(compiled.targets);
  if (fresh) await sink.begin(start);
  await failpoints.hit('prepare.after-checkpoint');

  await sink.prepareCopy(compiled.targets);
  await failpoints.hit('prepare.after-indexes-dropped');

  await run.greenFence.prepare();
  const fence = await run.greenFence.state();
  if (fence.state === 'open') await run.greenFence.raise(fence.epoch + 1, GREEN_FENCE_TIMEOUT_MS);
  await failpoints.hit('prepare.after-green-fence');

  await run.pipeline.defineRanges();
  await run.note('prepared', { tables: compiled.sources.map((relation) => showTable(relation.table)) });
  await failpoints.hit('prepare.after-ranges');
}

/** The state of an earlier attempt, or null when there is none. */
async function sinkCheckpoint(sink: Sink, compiled: Compiled): Promise<string | null> {
  await sink.prepare(compiled.targets);
  return sink.checkpoint();
}
