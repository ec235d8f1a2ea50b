import type { Column } from '../core/table.ts';
import { compileColumn } from './column.ts';
import type { Feed } from './feed.ts';
import type { Problem } from './scope.ts';
import type { ColumnObject, ModuleFunction, TargetSpec } from './spec.ts';
import { parseTableName } from './table-selection.ts';
import { tableId } from '../core/table.ts';
import { guarded, type Way } from './way-back.ts';

export interface OverrideOptions {
  readonly spec: ColumnObject;
  /** Of the blue column. */
  readonly index: number;
  /** Tables it may read, the first one first. It reads one: a change brings a row of one table. */
  readonly feeds: readonly Feed[];
  readonly targets: readonly TargetSpec[];
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  readonly problem: Problem;
}

/** An entry of `reverse.columns`; null after reporting why it does not compile. */
export function overrideWay(options: OverrideOptions): { readonly feed: Feed; readonly way: Way } | null {
  const { index, feeds, targets, modules, problem } = options;
  const main = feeds[0] as Feed;
  const column = main.blue.columns[index] as Column;
  const spec = withValues(options.spec, targets);
  const named = namesIn(spec, column.name);
  const has = (feed: Feed, name: string): boolean => feed.green.columns.some((one) => one.name === name);
  const feed = feeds.find((one) => named.every((name) => has(one, name)));
  if (feed === undefined && named.every((name) => feeds.some((one) => has(one, name)))) {
    problem(
      [],
      `reads ${named.join(', ')}, which are not in one table of green: a change brings a row of one table`,
    );
    return null;
  }
  const from = feed ?? main;
  const scope = { columns: from.green.columns, element: -1, modules, side: 'green' as const };
  const program = compileColumn(spec, { index, column }, scope, problem);
  if (program === null) return null;
  return {
    feed: from,
    way: {
      blue: index,
      name: column.name,
      inputs: program.inputs,
      evaluate: guarded(column, program.evaluate),
      policy: spec.on_error === 'fail' ? 'fail' : 'reject',
      exact: false,
      faithful: false,
      operation: program.operation,
      reason: 'an override decides',
      checks: [],
    },
  };
}

function namesIn(spec: ColumnObject, own: string): string[] {
  const { from, of } = spec;
  const listed = of === undefined ? [] : Array.isArray(of) ? of : Object.values(of);
  if (from !== undefined) return [from, ...listed];
  if (listed.length > 0 || spec.value !== undefined || spec.module !== undefined) return listed;
  return [own];
}

/** `unmap` without values reads those of the column it undoes. */
function withValues(spec: ColumnObject, targets: readonly TargetSpec[]): ColumnObject {
  if (spec.op !== 'unmap' || spec.values !== undefined || spec.from === undefined) return spec;
  for (const target of targets) {
    const column = target.columns?.[spec.from];
    if (column !== undefined && typeof column !== 'string' && column.values !== undefined)
      return { ...spec, values: column.values };
  }
  return spec;
}

/** The entry of the mapping that means a table by its name. */
export function entryIndex<T extends { readonly from: string }>(spec: readonly T[], id: string): number {
  return spec.findIndex((entry) => {
    const name = parseTableName(entry.from);
    return name !== null && tableId(name) === id;
  });
}
