import type { Cell, Relation } from '../core/table.ts';
import { hint } from './closest.ts';
import { constantFor } from './constant.ts';
import { documentColumn } from './document-draft.ts';
import type { Feed } from './feed.ts';
import type { Issues } from './issue.ts';
import { overrideWay } from './override.ts';
import type { ModuleFunction, TableSpec } from './spec.ts';
import { wayFrom, type Way } from './way-back.ts';

/** The green table a blue column comes from, and how. */
export interface Home {
  readonly feed: Feed;
  readonly way: Way;
}

interface Places {
  /** As a source. */
  readonly blue: Relation;
  /** As a sink. */
  readonly relation: Relation;
  /** Index in blue as a source → as a sink. */
  readonly to: readonly number[];
  readonly spec: TableSpec | undefined;
  readonly path: readonly (string | number)[];
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  readonly issues: Issues;
}

/**
 * Where each column of blue (as a source) comes from: the operator's override; else an exact way from a table that holds every row; else
 * a lossy one from the table that owns the rows; else what the others have.
 */
export function findHomes(main: Feed, others: readonly Feed[], places: Places): Map<number, Home> {
  const { blue, relation, to, spec, path, modules, issues } = places;
  const homes = new Map<number, Home>();
  const always = others.filter((feed) => feed.target.emitWhen === null);
  const sometimes = others.filter((feed) => feed.target.emitWhen !== null);
  const tries: readonly (readonly [Feed, boolean])[] = [
    ...[main, ...always].map((feed) => [feed, false] as const),
    [main, true],
    ...sometimes.map((feed) => [feed, false] as const),
    ...others.map((feed) => [feed, true] as const),
  ];
  // Of documents they are fields, which are in the way back of the document.
  const overrides = documentColumn(blue) === null ? (spec?.reverse?.columns ?? {}) : {};
  for (const [index, column] of blue.columns.entries()) {
    const own = Object.hasOwn(overrides, column.name) ? overrides[column.name] : undefined;
    if (own !== undefined) {
      const at = [...path, 'reverse', 'columns', column.name];
      const found = overrideWay({
        spec: own,
        index,
        feeds: [main, ...others],
        targets: spec?.to ?? [],
        modules,
        problem: (below, message) => issues.add([...at, ...below], message),
      });
      if (found !== null) homes.set(index, found);
      continue;
    }
    // Where rows are addressed only what holds every row counts.
    const key = relation.key.includes(to[index] as number);
    for (const [feed, sections] of key ? [[main, false] as const] : tries) {
      const way = wayFrom(feed, index, sections);
      if (way === null) continue;
      homes.set(index, { feed, way });
      break;
    }
  }
  return homes;
}

/** `reverse.off`: by column of blue (as a source). */
export function readOff({ blue, spec, path, issues }: Places): Map<number, Cell> {
  const off = new Map<number, Cell>();
  for (const [name, value] of Object.entries(spec?.reverse?.off ?? {})) {
    const at = [...path, 'reverse', 'off', name];
    const index = blue.columns.findIndex((column) => column.name === name);
    const column = blue.columns[index];
    if (column === undefined) {
      const known = blue.columns.map((one) => one.name);
      issues.add(at, `${name} is no column of blue${hint(name, known)}`);
      continue;
    }
    const cell = constantFor(value, column, (message) => issues.add(at, message));
    if (cell !== null) off.set(index, cell.cell);
  }
  return off;
}
