import type { Session } from '../core/engine.ts';
import type { CheckResult } from '../core/preflight.ts';
import { showTable } from '../core/table.ts';
import type { PlanReport, WayBackReport } from './api.ts';
import type { Compiled } from './compiled.ts';
import type { Settings } from './settings.ts';

/** What `plan` prints. Estimates are in it and not in the hash. */
export async function planReport(options: {
  readonly compiled: Compiled;
  readonly settings: Settings;
  readonly blue: Session;
  readonly checks: readonly CheckResult[];
  readonly hash: string;
  readonly versions: { readonly blue: string; readonly green: string };
  readonly proxies: readonly string[];
  readonly engine: string;
}): Promise<PlanReport> {
  const { compiled, settings, blue, proxies } = options;
  await estimate(compiled, blue);
  const { cutover, sequences } = settings;
  return {
    hash: options.hash,
    migration: settings.migration,
    blue: `${options.engine} ${options.versions.blue}`,
    green: `${options.engine} ${options.versions.green}`,
    tables: compiled.report.map((table) => ({
      from: table.from,
      ...(compiled.estimates.get(table.from) ?? { rows: 0, bytes: 0 }),
      to: table.to,
    })),
    ignored: compiled.ignored.map(showTable),
    onBlue: [
      `start keeping the log of ${compiled.sources.length} tables for migration ${settings.migration}`,
      'write marks into the log (no table of blue is touched)',
      'before the switch: create guards on the mapped tables, not active until the switch raises them',
      ...(compiled.back === null
        ? []
        : ['for the way back: create the state schema, and write after the switch what green is written']),
    ],
    onGreen: [
      ...(compiled.missingTargets ? ['run the schema file'] : []),
      'create the state schema',
      'guard the mapped tables against every writer but us until the switch',
      'drop secondary indexes and foreign keys of the empty tables, and build them again after the copy',
      ...(compiled.back === null
        ? []
        : ['for the way back: keep the log of the mapped tables from the switch on']),
    ],
    atCutover: [
      ...proxies.map((name) => `${name}: hold new work, wait for what is running`),
      `fence blue (locks for at most ${cutover.fenceTimeoutMs} ms), drain to the barrier`,
      `move counters of green past those of blue (+${sequences.headroom})`,
      ...(compiled.back === null ? [] : ['open the way back and let it answer a mark']),
      ...proxies.map((name) => `${name}: point to green, read back`),
      'seal the switch on blue (the point of no return), open green, let work go on',
      `budget of the write pause: ${cutover.maxWritePauseMs} ms; past it everything is undone`,
    ],
    wayBack: wayBackOf(compiled),
    warnings: [
      ...compiled.warnings,
      ...((compiled.back?.impossible ?? []).length > 0
        ? ['there is no way back: after the switch blue cannot follow']
        : []),
      ...(compiled.back?.warnings ?? []).map((warning) => `way back: ${warning}`),
      ...(compiled.unmentioned.length === 0
        ? []
        : [`not mapped and therefore not replicated: ${compiled.unmentioned.map(showTable).join(', ')}`]),
    ],
    checks: options.checks,
  };
}

function wayBackOf({ back }: Compiled): WayBackReport | null {
  if (back === null) return null;
  return {
    impossible: back.impossible,
    tables: back.report,
    greenOnly: back.greenOnly,
    fullImages: back.needsFullImages.map(({ table, why }) => ({ table: showTable(table), why })),
  };
}

/** Fills the estimates from the statistics of blue. */
export async function estimate(compiled: Compiled, blue: Session): Promise<void> {
  for (const relation of compiled.sources) {
    compiled.estimates.set(showTable(relation.table), await blue.estimate(relation));
  }
}
