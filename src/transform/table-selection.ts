import { showTable, tableId, type TableName } from '../core/table.ts';
import { hint } from './closest.ts';
import type { Issues } from './issue.ts';
import type { MappingSpec, TableSpec, TargetSpec } from './spec.ts';

/** A green table that a blue one feeds. */
export interface SelectedTarget {
  readonly table: TableName;
  /** Null: every column as it is. */
  readonly spec: TargetSpec | null;
  /** Of the entry in the file. */
  readonly path: readonly (string | number)[];
}

/** A blue table that takes part. */
export interface SelectedTable {
  readonly table: TableName;
  readonly spec: TableSpec;
  readonly path: readonly (string | number)[];
  readonly targets: readonly SelectedTarget[];
}

export interface Selection {
  readonly tables: readonly SelectedTable[];
  readonly ignored: readonly TableName[];
  /** Tables of blue that no entry mentions: they stay behind. */
  readonly unmentioned: readonly TableName[];
}

/**
 * Which tables the entries mean. An entry that names a table wins over a pattern; among patterns one with `ignore` wins, then the
 * first.
 */
export function selectTables(spec: MappingSpec, blue: readonly TableName[], issues: Issues): Selection {
  const tables: SelectedTable[] = [];
  const ignored: TableName[] = [];
  const taken = new Set<string>();
  const known = blue.map(plainName);
  for (const [index, entry] of spec.entries()) {
    if (entry.from.includes('*')) continue;
    const path = ['tables', index];
    const table = named(entry.from, [...path, 'from'], issues);
    if (table === null) continue;
    if (taken.has(tableId(table))) {
      issues.add(
        [...path, 'from'],
        `${showTable(table)} has an entry already; list all its green tables under one`,
      );
      continue;
    }
    taken.add(tableId(table));
    if (!blue.some((one) => tableId(one) === tableId(table))) {
      issues.add([...path, 'from'], `blue has no table ${showTable(table)}${hint(entry.from, known)}`);
      continue;
    }
    if (entry.ignore === true) ignored.push(table);
    else tables.push(selected(table, entry, path, issues));
  }
  const patterns = spec.flatMap((entry, index) =>
    entry.from.includes('*') ? [{ entry, index, test: matcher(entry.from) }] : [],
  );
  patterns.sort(
    (a, b) => Number(b.entry.ignore === true) - Number(a.entry.ignore === true) || a.index - b.index,
  );
  for (const { entry, index } of patterns) {
    if (
      entry.ignore === true ||
      (entry.to === undefined && entry.key === undefined && entry.when === undefined)
    )
      continue;
    issues.add(
      ['tables', index, 'from'],
      'a pattern can only be copied as it is or ignored: name the table to map it',
    );
  }
  const unmentioned: TableName[] = [];
  for (const table of blue) {
    if (taken.has(tableId(table))) continue;
    const match = patterns.find(({ test }) => test(plainName(table)));
    if (match === undefined) unmentioned.push(table);
    else if (match.entry.ignore === true) ignored.push(table);
    else tables.push(selected(table, { from: match.entry.from }, ['tables', match.index], issues));
  }
  return { tables, ignored, unmentioned };
}

function selected(
  table: TableName,
  spec: TableSpec,
  path: readonly (string | number)[],
  issues: Issues,
): SelectedTable {
  if (spec.to === undefined) return { table, spec, path, targets: [{ table, spec: null, path }] };
  const targets = spec.to.flatMap((target, index): SelectedTarget[] => {
    const own = [...path, 'to', index];
    const name = named(target.table, [...own, 'table'], issues);
    return name === null ? [] : [{ table: name, spec: target, path: own }];
  });
  return { table, spec, path, targets };
}

function named(text: string, path: readonly (string | number)[], issues: Issues): TableName | null {
  const table = parseTableName(text);
  if (table === null) issues.add(path, `${text} is no table name: write schema.name`);
  return table;
}

const QUOTED = '"((?:[^"]|"")+)"';
const NAME = new RegExp(`^(?:${QUOTED}|([^."]+))\\.(?:${QUOTED}|([^"]+))$`);

/** `schema.name`; a part in double quotes may hold dots. Null when it is neither. */
export function parseTableName(text: string): TableName | null {
  const match = NAME.exec(text);
  if (match === null) return null;
  const part = (quoted: string | undefined, plain: string | undefined): string =>
    quoted === undefined ? (plain as string) : quoted.replaceAll('""', '"');
  return { schema: part(match[1], match[2]), name: part(match[3], match[4]) };
}

const plainName = (table: TableName): string => `${table.schema}.${table.name}`;

function matcher(pattern: string): (name: string) => boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`, 's');
  return (name) => expression.test(name);
}
