import type { TablePlan, TargetTable } from '../core/plan.ts';
import { columnIndex, showTable, tableId, type Relation, type TableName } from '../core/table.ts';
import { hint } from './closest.ts';
import { comparableOf, type Comparable } from './comparable.ts';
import { compileCondition, type Condition } from './condition.ts';
import { compileDocumentCondition } from './document-condition.ts';
import { documentColumn, draftDocuments, mapsFields } from './document-draft.ts';
import { draftChildren } from './document-explode.ts';
import { fullImageReasons, type FullImageNeed } from './full-images.ts';
import { Issues } from './issue.ts';
import { mergeAll } from './document-merge.ts';
import { feed, type FedTable } from './merge.ts';
import { reportOf, type TableReport } from './report.ts';
import type { MappingSpec, ModuleFunction } from './spec.ts';
import { CompiledPlan } from './table-plan.ts';
import { selectTables, type SelectedTable } from './table-selection.ts';
import { draftTarget, type TargetDraft } from './target-draft.ts';
import { TargetProgram } from './target-program.ts';

export interface CompileOptions {
  readonly spec: MappingSpec;
  /** Every table of blue, for patterns and for what nobody mentioned. */
  readonly tables: readonly TableName[];
  /** The layout of a blue table, as a source; null when it is not there. */
  readonly source: (table: TableName) => Relation | null;
  /** The layout of a green table, as a sink; null when it is not there. */
  readonly target: (table: TableName) => Relation | null;
  /** Loaded functions by `moduleKey`. */
  readonly modules: ReadonlyMap<string, ModuleFunction>;
}

/** The blue tables whose ranges are copied together: one, or all that feed one merged green table, the owner first. */
export interface CopyUnit {
  readonly id: string;
  readonly relations: readonly Relation[];
}

export interface CompiledMapping {
  readonly plans: readonly TablePlan[];
  readonly units: readonly CopyUnit[];
  /** Every green table once. */
  readonly targets: readonly TargetTable[];
  /** Tables whose log must bring whole old rows and does not say that it does. */
  readonly needsFullImages: readonly FullImageNeed[];
  readonly report: readonly TableReport[];
  /** Per green table: what of it is a pure function of blue rows. */
  readonly comparables: readonly Comparable[];
  readonly ignored: readonly TableName[];
  /** Tables of blue that the mapping does not mention. */
  readonly unmentioned: readonly TableName[];
  readonly warnings: readonly string[];
}

/** The tables a mapping is about, before any layout is known. */
export function mappedTables(
  spec: MappingSpec,
  tables: readonly TableName[],
): { readonly source: readonly TableName[]; readonly target: readonly TableName[] } {
  const issues = new Issues();
  const { tables: selected } = selectTables(spec, tables, issues);
  issues.check();
  const target = new Map(
    selected.flatMap((one) => one.targets.map(({ table }) => [tableId(table), table] as const)),
  );
  return { source: selected.map((one) => one.table), target: [...target.values()] };
}

/**
 * Compiles the whole mapping against the layouts of both sides.
 * @throws VerdigrisError MAPPING_INVALID with every problem in `context.issues` ({@link import('./issue.ts').MappingIssue})
 */
export function compileMapping(options: CompileOptions): CompiledMapping {
  const issues = new Issues();
  const selection = selectTables(options.spec, options.tables, issues);
  const entries = withMerges(
    selection.tables.flatMap((selected) => compileEntry(selected, options, issues) ?? []),
    issues,
  );
  const fed = feedTargets(entries, issues);
  if (issues.count === 0 && entries.length === 0) issues.add(['tables'], 'no table of blue takes part');
  for (const entry of entries) checkDocuments(entry, issues);
  issues.check();

  const compiled = entries.map((entry) => ({ ...entry, plan: planOf(entry, fed) }));
  const plans = compiled.map((one) => one.plan);
  const targets = [...new Set([...fed.values()].map((one) => one.table))];
  return {
    plans,
    units: unitsOf(plans),
    targets,
    needsFullImages: plans.flatMap(fullImageReasons),
    report: compiled.map(({ plan, selected }) => reportOf(plan, selected.spec.reverse)),
    comparables: targets.map((table) => comparableOf(table, plans)),
    ignored: selection.ignored,
    unmentioned: selection.unmentioned,
    warnings: plans.flatMap(warningsOf),
  };
}

interface Entry {
  readonly selected: SelectedTable;
  readonly blue: Relation;
  readonly when: Condition | null;
  readonly drafts: readonly TargetDraft[];
}

function compileEntry(selected: SelectedTable, options: CompileOptions, issues: Issues): Entry | null {
  const { spec, path } = selected;
  const blue = options.source(selected.table);
  if (blue === null) {
    issues.add(
      [...path, 'from'],
      `blue has no table ${showTable(selected.table)}, or it cannot be replicated`,
    );
    return null;
  }
  checkSourceKey(selected, blue, issues);
  const complain = (message: string): void => issues.add([...path, 'when'], message);
  const documents = documentColumn(blue);
  const when =
    spec.when === undefined
      ? null
      : documents === null
        ? compileCondition(spec.when, blue, complain)
        : compileDocumentCondition(spec.when, documents, complain);
  const drafts: TargetDraft[] = [];
  for (const target of selected.targets) {
    const green = options.target(target.table);
    if (green === null) {
      const own = target.spec === null ? [...target.path, 'from'] : [...target.path, 'table'];
      issues.add(own, `green has no table ${showTable(target.table)}`);
      continue;
    }
    const fields = mapsFields(target.spec) && documents !== null && documentColumn(green) !== null;
    const entry = { reverse: spec.reverse, path };
    const at = { blue, green, target, modules: options.modules, issues, entry };
    if (!fields) drafts.push(draftTarget(at));
    else if (target.spec.explode === undefined) drafts.push(draftDocuments(at));
    else {
      const children = draftChildren(at, documents);
      if (children !== null) drafts.push(children);
    }
  }
  checkNothingLost(selected, blue, { when, drafts }, issues);
  checkReverse(selected, blue, issues);
  return { selected, blue, when, drafts };
}

/** What is not made of documents: their rows come and change as wholes, and none of their columns can be left out. */
function checkDocuments({ selected, blue, drafts }: Entry, issues: Issues): void {
  if (!blue.columns.some((column) => column.kind === 'document')) return;
  const complain = (why: string): void =>
    issues.add([...selected.path], `${showTable(blue.table)} holds documents: ${why}`);
  for (const { programs, explode, green, mergedDocuments } of drafts) {
    if (explode?.elements !== undefined || mergedDocuments === true) continue;
    if (programs.some((program) => program.copy === null && program.document === undefined))
      complain('operations cannot look into them');
    if (programs.length !== green.columns.length || programs.length !== blue.columns.length)
      complain('the other side has no such documents');
  }
}

/** Documents of several tables that become one. */
function withMerges(entries: readonly Entry[], issues: Issues): readonly Entry[] {
  const merged = mergeAll(
    entries.flatMap((entry) => entry.drafts),
    issues,
  );
  return entries.map((entry) => ({
    ...entry,
    drafts: entry.drafts.flatMap((draft) => merged.get(draft) ?? []),
  }));
}

function checkSourceKey({ spec, path }: SelectedTable, blue: Relation, issues: Issues): void {
  if (spec.key === undefined) return;
  const names = blue.columns.map((column) => column.name);
  for (const [index, name] of spec.key.entries()) {
    if (!names.includes(name))
      issues.add([...path, 'key', index], `${name} is no column of blue${hint(name, names)}`);
  }
  const key = blue.key.map((index) => names[index] as string);
  if (key.length !== spec.key.length || key.some((name) => !spec.key?.includes(name))) {
    issues.add([...path, 'key'], `the key of ${showTable(blue.table)} is (${key.join(', ')})`);
  }
}

/** Where "everything by name" was asked for, a column of blue that has no namesake must be dropped by name. */
function checkNothingLost(
  { targets }: SelectedTable,
  blue: Relation,
  { when, drafts }: { when: Condition | null; drafts: readonly TargetDraft[] },
  issues: Issues,
): void {
  const used = new Set(
    drafts.flatMap((draft) => [
      ...draft.programs.flatMap((one) => one.inputs),
      ...(draft.emitWhen?.inputs ?? []),
    ]),
  );
  for (const draft of drafts) if (draft.explode !== null) used.add(draft.explode.array);
  for (const index of when?.inputs ?? []) used.add(index);
  const dropped = new Set(targets.flatMap((target) => target.spec?.drop ?? []));
  for (const draft of drafts) {
    const columns = draft.spec?.columns;
    if (columns !== undefined && !Object.hasOwn(columns, '*')) continue;
    for (const [index, { name }] of blue.columns.entries()) {
      if (used.has(index) || dropped.has(name) || (columns !== undefined && Object.hasOwn(columns, name)))
        continue;
      if (draft.green.columns.some((column, at) => column.name === name && draft.defaults.includes(at)))
        continue;
      const known = draft.green.columns.map((column) => column.name);
      const advice = draft.spec === null ? 'write an entry under `to` with' : 'map it, or write';
      issues.add(
        columns === undefined ? draft.path : [...draft.path, 'columns', '*'],
        `${showTable(draft.green.table)} has no column ${name}; to leave it behind ${advice} drop: [${name}]${hint(name, known)}`,
      );
    }
  }
}

function checkReverse({ spec, path }: SelectedTable, blue: Relation, issues: Issues): void {
  // Then they are fields of its documents, which the draft has looked at.
  if (documentColumn(blue) !== null) return;
  const names = blue.columns.map((column) => column.name);
  for (const name of Object.keys(spec.reverse?.columns ?? {})) {
    if (columnIndex(blue, name) < 0) {
      issues.add([...path, 'reverse', 'columns', name], `${name} is no column of blue${hint(name, names)}`);
    }
  }
}

function feedTargets(entries: readonly Entry[], issues: Issues): Map<string, FedTable> {
  const byTable = Map.groupBy(
    entries.flatMap((entry) => entry.drafts),
    (draft) => tableId(draft.green.table),
  );
  return new Map([...byTable].map(([id, drafts]) => [id, feed(drafts, issues)]));
}

function planOf(entry: Entry, fed: ReadonlyMap<string, FedTable>): CompiledPlan {
  const targets = entry.drafts.map((draft) => {
    const { table, roles } = fed.get(tableId(draft.green.table)) as FedTable;
    return new TargetProgram({
      table,
      role: roles.get(draft) ?? 'whole',
      programs: draft.programs,
      emitWhen: draft.emitWhen,
      explode: draft.explode,
      width: entry.blue.columns.length,
    });
  });
  return new CompiledPlan({
    from: entry.blue,
    when: entry.when,
    targets,
    passthrough: passthroughOf(entry.when, targets),
  });
}

function passthroughOf(when: Condition | null, targets: readonly TargetProgram[]): TablePlan['passthrough'] {
  const [only] = targets;
  if (
    only === undefined ||
    targets.length > 1 ||
    when !== null ||
    only.emitWhen !== null ||
    only.role !== 'whole'
  )
    return null;
  if (only.programs.some((program) => program.copy === null)) return null;
  return {
    columns: only.programs.map((program) => program.column),
    from: only.programs.map((program) => program.copy as number),
  };
}

/** Tables joined by the merged tables they feed, each group with an owner first. */
function unitsOf(plans: readonly CompiledPlan[]): CopyUnit[] {
  const group = new Map<CompiledPlan, CompiledPlan[]>(plans.map((plan) => [plan, [plan]]));
  const byTarget = new Map<TargetTable, CompiledPlan>();
  for (const plan of plans) {
    for (const target of plan.to) {
      const other = byTarget.get(target);
      if (other === undefined) {
        byTarget.set(target, plan);
        continue;
      }
      const left = group.get(other) as CompiledPlan[];
      const right = group.get(plan) as CompiledPlan[];
      if (left === right) continue;
      left.push(...right);
      for (const member of right) group.set(member, left);
    }
  }
  const isOwner = (plan: CompiledPlan): boolean => plan.targets.some((target) => target.role === 'owner');
  return [...new Set(group.values())].map((members) => {
    const sorted = [...members].sort((a, b) => Number(isOwner(b)) - Number(isOwner(a)));
    const first = sorted[0] as CompiledPlan;
    return { id: showTable(first.from.table), relations: sorted.map((plan) => plan.from) };
  });
}

/** What is allowed and may still surprise. */
function warningsOf(plan: CompiledPlan): string[] {
  const from = showTable(plan.from.table);
  return plan.targets.flatMap((target) => {
    const loose = plan.from.key.filter((index) => !target.keyInputs.includes(index));
    if (loose.length === 0 || target.relation.key.length === 0) return [];
    const names = loose.map((index) => plan.from.columns[index]?.name).join(', ');
    return [
      `The key of ${showTable(target.relation.table)} does not contain ${names} of ${from}: two rows of blue may meet on green, and the second is then refused.`,
    ];
  });
}
