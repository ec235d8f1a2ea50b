import type { Catalog } from '../core/catalog.ts';
import type { Capabilities } from '../core/engine.ts';
import type { TablePlan, TargetTable } from '../core/plan.ts';
import { VerdigrisError } from '../core/errors.ts';
import { columnIndex, showTable, tableId, type Relation, type TableName } from '../core/table.ts';
import {
  compileMapping,
  mappedTables,
  type CompiledMapping,
  type CompileOptions,
  type CopyUnit,
} from '../transform/compile.ts';
import { compileReverse, type ReverseMapping } from '../transform/reverse.ts';
import type { VerifyTable } from '../verify/verify-table.ts';
import type { ColumnOrigin } from './counter-pairs.ts';

export interface MappingSource {
  readonly spec: CompileOptions['spec'];
  readonly modules: CompileOptions['modules'];
}

/** The mapping against the layouts of both sides, in the form that each part of the run needs. */
export interface Compiled {
  readonly plans: readonly TablePlan[];
  readonly units: readonly CopyUnit[];
  readonly sources: readonly Relation[];
  readonly targets: readonly TargetTable[];
  readonly targetNames: readonly TableName[];
  /** Some tables of green are not there yet; their layout is what the schema file would make. */
  readonly missingTargets: boolean;
  readonly needsFullImages: CompiledMapping['needsFullImages'];
  readonly report: CompiledMapping['report'];
  readonly verifyTables: readonly VerifyTable[];
  /** Columns that arrive on green with the same values. */
  readonly origins: readonly ColumnOrigin[];
  readonly ignored: readonly TableName[];
  readonly unmentioned: readonly TableName[];
  readonly warnings: readonly string[];
  /** The mapping read backwards, against the layouts as they are now; null: not wanted. */
  readonly back: BackCompiled | null;
  /** Rows and bytes of blue's tables from statistics, by shown name. Filled by the run. */
  readonly estimates: Map<string, { readonly rows: number; readonly bytes: number }>;
}

/** The way back, or why there is none. */
export type BackCompiled = ReverseMapping;

/** @throws VerdigrisError MAPPING_INVALID, SCHEMA_TABLE_MISSING */
export async function compile(
  options: MappingSource & {
    readonly blue: Catalog;
    readonly green: Catalog;
    readonly schemaSql: string | null;
    /** Compile the way back too, for an engine of these capabilities; null: not. */
    readonly back: Capabilities | null;
  },
): Promise<Compiled> {
  const { spec, modules, blue, green, schemaSql } = options;
  const tables = await blue.tables();
  const wanted = mappedTables(spec, tables);
  const sources = await layouts(wanted.source, (table) => blue.source(table));
  const targets = await layouts(wanted.target, (table) => green.target(table));
  const missing = wanted.target.filter((table) => !targets.has(tableId(table)));
  if (missing.length > 0 && schemaSql !== null && missing.length === wanted.target.length) {
    for (const relation of await green.previewSchema(schemaSql, wanted.target))
      targets.set(tableId(relation.table), relation);
  }
  const mapping = compileMapping({
    spec,
    modules,
    tables,
    source: (table) => sources.get(tableId(table)) ?? null,
    target: (table) => targets.get(tableId(table)) ?? null,
  });
  const origins = originsOf(mapping);
  const byGreen = Map.groupBy(origins, ({ green }) => tableId(green));
  return {
    plans: mapping.plans,
    units: mapping.units,
    sources: mapping.plans.map((plan) => plan.from),
    targets: mapping.targets,
    targetNames: wanted.target,
    missingTargets: missing.length > 0,
    needsFullImages: mapping.needsFullImages,
    report: mapping.report,
    verifyTables: mapping.comparables.map((comparable) =>
      verifyTable(mapping, comparable, byGreen.get(tableId(comparable.table.relation.table)) ?? []),
    ),
    origins,
    ignored: mapping.ignored,
    unmentioned: mapping.unmentioned,
    warnings: mapping.warnings,
    back:
      options.back === null
        ? null
        : await compileBack({
            ...options,
            capabilities: options.back,
            plans: mapping.plans,
            targets: mapping.targets,
          }),
    estimates: new Map(),
  };
}

/**
 * The mapping read backwards. Tables of green that are not there yet are taken as the schema file will make them.
 * @throws VerdigrisError MAPPING_INVALID
 */
export async function compileBack(
  options: MappingSource & {
    readonly blue: Catalog;
    readonly green: Catalog;
    readonly capabilities: Capabilities;
    readonly plans: readonly TablePlan[];
    readonly targets: readonly TargetTable[];
  },
): Promise<BackCompiled> {
  const { spec, modules, blue, green, plans, targets } = options;
  const blueNames = plans.map((plan) => plan.from.table);
  const blueTargets = await layouts(blueNames, (table) => blue.target(table));
  const planned = new Map(targets.map((target) => [tableId(target.relation.table), asSource(target)]));
  const greenNames = targets.map(({ relation }) => relation.table);
  const greenSources = await layouts(greenNames, (table) => green.source(table));
  return compileReverse({
    compiled: { plans },
    spec,
    modules,
    elements: options.capabilities.arrayElements === true,
    misfits: 'keep',
    blueTarget: (table) => blueTargets.get(tableId(table)) ?? null,
    greenSource: (table) => greenSources.get(tableId(table)) ?? planned.get(tableId(table)) ?? null,
  });
}

/** Where documents of several tables become one the parts are columns of the sink alone: the log has the document. */
function asSource({ relation, merge }: TargetTable): Relation {
  const parts = new Set(merge?.parts.flatMap((part) => part.columns));
  const columns = relation.columns.filter(({ kind }, index) => kind !== 'document' || !parts.has(index));
  return columns.length === relation.columns.length ? relation : { ...relation, columns };
}

/** Layouts of those that exist. */
async function layouts(
  tables: readonly TableName[],
  read: (table: TableName) => Promise<Relation>,
): Promise<Map<string, Relation>> {
  const found = new Map<string, Relation>();
  for (const table of tables) {
    try {
      found.set(tableId(table), await read(table));
    } catch (error) {
      if (!(error instanceof VerdigrisError) || error.code !== 'SCHEMA_TABLE_MISSING') throw error;
    }
  }
  return found;
}

/** @param origins those of the columns of this table */
function verifyTable(
  mapping: CompiledMapping,
  comparable: CompiledMapping['comparables'][number],
  origins: readonly Origin[],
): VerifyTable {
  const { table: target, sources } = comparable;
  const read = new Set(sources.map((source) => tableId(source.table)));
  const plans = mapping.plans.filter((plan) => read.has(tableId(plan.from.table)));
  return {
    target,
    plans,
    compared: comparable.columns,
    canonical: canonicalOf(comparable, origins),
    direct: comparable.direct,
    notCompared: comparable.notCompared,
    links: linksOf(origins, plans, target),
    sameRanges: plans.every((plan) => firstKeyPasses(origins, plan, target)),
  };
}

/** Where a value is passed on between columns of one type its text is the same on both sides, and so compared as it is. */
function canonicalOf(
  comparable: CompiledMapping['comparables'][number],
  origins: readonly Origin[],
): VerifyTable['canonical'] {
  const { relation } = comparable.table;
  const exact = new Set(comparable.direct?.columns);
  for (const { green, sameType } of origins) if (sameType) exact.add(columnIndex(relation, green.column));
  return comparable.canonical.map((canonical, index) => (exact.has(index) ? null : canonical));
}

/** Per plan the columns of green's key that hold blue's key; null unless all plans agree on them. */
function linksOf(
  origins: readonly Origin[],
  plans: readonly TablePlan[],
  target: TargetTable,
): VerifyTable['links'] {
  const { relation } = target;
  const links: number[][] = [];
  for (const plan of plans) {
    const link = plan.from.key.map((blue) => {
      const name = plan.from.columns[blue]?.name ?? '';
      const own = origins.filter(
        (one) => tableId(one.blue) === tableId(plan.from.table) && one.blue.column === name,
      );
      return (
        relation.key.find((column) =>
          own.some((one) => one.green.column === relation.columns[column]?.name),
        ) ?? -1
      );
    });
    if (link.length === 0 || link.includes(-1)) return null;
    links.push(link);
  }
  const sets = new Set(links.map((link) => [...link].sort((a, b) => a - b).join()));
  return sets.size === 1 ? links : null;
}

/** The first key column of green is the first key column of blue, with the same text. */
function firstKeyPasses(origins: readonly Origin[], plan: TablePlan, target: TargetTable): boolean {
  const green = target.relation.columns[target.relation.key[0] ?? -1];
  const blue = plan.from.columns[plan.from.key[0] ?? -1];
  if (green === undefined || blue === undefined) return false;
  return origins.some(
    (origin) =>
      tableId(origin.blue) === tableId(plan.from.table) &&
      origin.blue.column === blue.name &&
      origin.green.column === green.name,
  );
}

type Origin = ColumnOrigin & { readonly sameType: boolean };

/** Columns that are copied, renamed, or widened among integers: the text of the value stays what it is. */
function originsOf(mapping: CompiledMapping): Origin[] {
  const plans = new Map(mapping.plans.map((plan) => [showTable(plan.from.table), plan]));
  return mapping.report.flatMap((table) => {
    const plan = plans.get(table.from);
    if (plan === undefined) return [];
    return table.to.flatMap(({ table: name, columns }) => {
      const target = plan.to.find((candidate) => showTable(candidate.relation.table) === name);
      if (target === undefined) return [];
      return columns.flatMap((column) => {
        const from = column.from[0];
        if (from === undefined || column.from.length !== 1 || !/^(copy|rename|cast)\b/.test(column.operation))
          return [];
        const blue = plan.from.columns[columnIndex(plan.from, from)];
        const green = target.relation.columns[columnIndex(target.relation, column.column)];
        if (blue === undefined || green === undefined || blue.kind !== green.kind) return [];
        // Of documents it tells what becomes of their fields.
        if (blue.kind === 'document' && column.operation !== 'copy') return [];
        if (column.operation.startsWith('cast') && blue.kind !== 'integer') return [];
        return [
          {
            blue: { ...plan.from.table, column: blue.name },
            green: { ...target.relation.table, column: green.name },
            sameType: blue.type === green.type,
          },
        ];
      });
    });
  });
}
