import { VerdigrisError } from '../core/errors.ts';
import type { TargetTable } from '../core/plan.ts';
import { showTable, tableId, type Cell, type Relation, type TableName } from '../core/table.ts';
import { BackPlan } from './back-plan.ts';
import { BackTarget } from './back-target.ts';
import type { CompiledMapping, CopyUnit } from './compile.ts';
import { reverseComparable, type ReverseComparable } from './reverse-comparable.ts';
import { feedOf, type Feed } from './feed.ts';
import type { FullImageNeed } from './full-images.ts';
import { Issues } from './issue.ts';
import { entryIndex } from './override.ts';
import type { ColumnWay } from './column-ways.ts';
import { draftBlue, type BackDraft, type BlueDraft, type Impossible } from './reverse-draft.ts';
import { backImageReasons } from './reverse-images.ts';
import type { MappingSpec, ModuleFunction } from './spec.ts';
import { CompiledPlan } from './table-plan.ts';

export interface ReverseOptions {
  /** The way there; made by `compileMapping`. */
  readonly compiled: Pick<CompiledMapping, 'plans'>;
  readonly spec: MappingSpec;
  /** The layout of a blue table, as a sink; null when it is not there. */
  readonly blueTarget: (table: TableName) => Relation | null;
  /** The layout of a green table, as a source; null when it is not there. */
  readonly greenSource: (table: TableName) => Relation | null;
  /** Loaded functions by `moduleKey`. */
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  /** The sink on blue keeps the elements of arrays (`TargetTable.elements`). Default: false; then an exploded array has no way back. */
  readonly elements?: boolean;
  /**
   * What becomes of blue's row when green changes it to something that does not fit. `remove` (default): it goes, as a hole means, and what
   * only blue had of it is lost. `keep`: it stays out of date; the pipeline must know what `Reject.stays` asks of it.
   */
  readonly misfits?: 'remove' | 'keep';
}

/** One blue table in `plan`. */
export interface ReverseReport {
  readonly table: string;
  /** Green tables it comes back from. */
  readonly from: readonly string[];
  readonly columns: readonly Omit<ColumnWay, 'to'>[];
}

/** What of green has no place on blue: it stays on green and is lost to blue after a rollback. */
export interface GreenOnly {
  /** Green table. */
  readonly table: string;
  readonly column: string;
}

/** The mapping read backwards: from rows of green to rows of blue, for as long as green is written and blue may be wanted back. */
export interface ReverseMapping {
  /** One per green table. They cannot be run where {@link impossible} names their table. */
  readonly plans: readonly BackPlan[];
  /** Green tables that write the same blue table, the one that owns its rows first. */
  readonly units: readonly CopyUnit[];
  /** Every blue table once, and the elements of its arrays. */
  readonly targets: readonly TargetTable[];
  /** Green tables that must log whole old rows before they are opened for writes, and do not say that they do. */
  readonly needsFullImages: readonly FullImageNeed[];
  readonly report: readonly ReverseReport[];
  readonly greenOnly: readonly GreenOnly[];
  /** Why there is no way back; empty when there is one. */
  readonly impossible: readonly Impossible[];
  /** Per blue table what of it is a pure function of green rows. */
  readonly comparables: readonly ReverseComparable[];
  readonly warnings: readonly string[];
}

/**
 * Compiles the way back of a compiled mapping.
 * @throws VerdigrisError MAPPING_INVALID with every problem of the `reverse:` entries in `context.issues`
 */
export function compileReverse(options: ReverseOptions): ReverseMapping {
  const issues = new Issues();
  const impossible: Impossible[] = [];
  const blues = options.compiled.plans.flatMap((plan) => {
    if (!(plan instanceof CompiledPlan))
      throw new VerdigrisError(
        'INTERNAL',
        `The plan of ${showTable(plan.from.table)} was not compiled here.`,
      );
    const draft = draftOf(plan, options, issues, impossible);
    return draft === null ? [] : [{ draft, table: tableOf(draft) }];
  });
  issues.check();

  const byGreen = new Map<string, { readonly green: Relation; readonly targets: BackTarget[] }>();
  const targets: TargetTable[] = [];
  const owners = new Map<BackTarget, boolean>();
  for (const { draft, table } of blues) {
    targets.push(table);
    for (const back of draft.drafts) {
      const own = back.role === 'element' ? elementsOf(back, draft.relation) : table;
      if (own !== table) targets.push(own);
      const { green } = back.feed;
      const entry = byGreen.get(tableId(green.table)) ?? { green, targets: [] };
      byGreen.set(tableId(green.table), entry);
      const target = new BackTarget(back, own);
      owners.set(target, back.role === 'row' || back.role === 'replace');
      entry.targets.push(target);
    }
  }
  const plans = [...byGreen.values()].map(
    ({ green, targets: own }) => new BackPlan(green, own, options.misfits),
  );
  return {
    plans,
    units: unitsOf(plans, owners),
    targets,
    needsFullImages: plans.flatMap(backImageReasons),
    report: blues.map(({ draft }) => ({
      table: showTable(draft.blue.table),
      from: [...new Set(draft.drafts.map((back) => back.feed.name))],
      columns: draft.columns.map((column) => {
        const { to: _, ...shown } = column;
        return shown;
      }),
    })),
    greenOnly: plans.flatMap(greenOnly),
    impossible: [...impossible, ...blues.flatMap(({ draft }) => draft.impossible)],
    comparables: blues.map(({ draft, table }) => reverseComparable(draft, table)),
    warnings: blues.flatMap(({ draft }) => draft.warnings),
  };
}

function draftOf(
  plan: CompiledPlan,
  options: ReverseOptions,
  issues: Issues,
  impossible: Impossible[],
): BlueDraft | null {
  const { spec, modules, elements = false } = options;
  const table = showTable(plan.from.table);
  const relation = options.blueTarget(plan.from.table);
  if (relation === null) {
    impossible.push({ table, column: null, why: 'blue does not have it any more' });
    return null;
  }
  const feeds: Feed[] = [];
  for (const target of plan.targets) {
    const green = options.greenSource(target.relation.table);
    if (green !== null) feeds.push(feedOf(plan, target, green));
    else {
      const why = `${showTable(target.relation.table)} is not on green, or its changes cannot be read`;
      impossible.push({ table, column: null, why });
    }
  }
  if (feeds.length < plan.targets.length) return null;
  const index = entryIndex(spec, tableId(plan.from.table));
  return draftBlue({
    feeds,
    relation,
    spec: spec[index],
    path: ['tables', index],
    modules,
    issues,
    elements,
  });
}

/** Blue's table as plans write it: split rows meet in it as the parts of a merge do. */
function tableOf({ relation, drafts }: BlueDraft): TargetTable {
  const row = drafts.find((draft) => draft.role === 'row' || draft.role === 'replace');
  const parts = drafts.filter((draft) => draft.role === 'part');
  return {
    relation,
    prefix: row?.role === 'replace' ? relation.key.length : 0,
    merge:
      parts.length === 0
        ? null
        : {
            owner: (row?.ways ?? []).map((one) => one.to),
            parts: parts.map(({ off }) => ({
              columns: [...off.keys()],
              absent: [...off.values()] satisfies Cell[],
            })),
          },
  };
}

const elementsOf = ({ relation, array, ways }: BackDraft, of: Relation): TargetTable => ({
  relation,
  merge: null,
  prefix: 0,
  elements: { of, array, ordinal: ways.length - 2, element: ways.length - 1 },
});

/** Green tables joined by the blue tables they write. */
function unitsOf(plans: readonly BackPlan[], owners: ReadonlyMap<BackTarget, boolean>): CopyUnit[] {
  const group = new Map(plans.map((plan) => [plan, [plan]]));
  const byTable = new Map<string, BackPlan>();
  const written = (target: BackTarget): string =>
    tableId((target.table.elements?.of ?? target.table.relation).table);
  for (const plan of plans) {
    for (const target of plan.targets) {
      const other = byTable.get(written(target));
      byTable.set(written(target), other ?? plan);
      const left = group.get(other ?? plan) as BackPlan[];
      const right = group.get(plan) as BackPlan[];
      if (left === right) continue;
      left.push(...right);
      for (const member of right) group.set(member, left);
    }
  }
  const owns = (plan: BackPlan): number => Number(plan.targets.some((target) => owners.get(target) === true));
  return [...new Set(group.values())].map((members) => {
    const sorted = [...members].sort((a, b) => owns(b) - owns(a));
    const relations = sorted.map((plan) => plan.from);
    return { id: showTable((relations[0] as Relation).table), relations };
  });
}

function greenOnly({ from, inputs }: BackPlan): GreenOnly[] {
  return from.columns.flatMap((column, index) =>
    inputs.includes(index) ? [] : [{ table: showTable(from.table), column: column.name }],
  );
}
