import { tableId, type Column, type Kind, type Relation, type TableName } from '../../../src/core/table.ts';
import { compileMapping, type CompiledMapping } from '../../../src/transform/compile.ts';
import { compileReverse, type ReverseMapping } from '../../../src/transform/reverse.ts';
import { mappingSchema, type ModuleFunction } from '../../../src/transform/spec.ts';
import { readType } from '../../../src/transform/type-word.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { MappingIssue } from '../../../src/transform/issue.ts';

interface ColumnWords {
  readonly nullable?: boolean;
  readonly generated?: boolean;
  readonly hasDefault?: boolean;
  readonly mayBeUnchanged?: boolean;
  readonly labels?: readonly string[];
  readonly kind?: Kind;
}

/** `integer`, `text?` (nullable), or a type with more words. */
export type ColumnShort = string | readonly [string, ColumnWords];

function column(name: string, short: ColumnShort): Column {
  const [word, more] = typeof short === 'string' ? [short, {}] : short;
  const type = word.replace(/\?$/, '');
  const kind =
    more.kind ?? (type.endsWith('[]') ? 'array' : more.labels ? 'text' : (readType(type).kind ?? 'other'));
  return {
    name,
    type,
    kind,
    nullable: more.nullable ?? word.endsWith('?'),
    generated: more.generated ?? false,
    hasDefault: more.hasDefault ?? false,
    exact: kind !== 'decimal' && kind !== 'float',
    mayBeUnchanged: more.mayBeUnchanged ?? ['text', 'json', 'bytes', 'array', 'decimal'].includes(kind),
    ...(more.labels ? { labels: more.labels } : {}),
  };
}

export function relation(
  name: string,
  columns: Readonly<Record<string, ColumnShort>>,
  key: readonly string[] = ['id'],
  identity: Relation['identity'] = 'key',
): Relation {
  const names = Object.keys(columns);
  const [schema = '', table = ''] = name.split('.');
  return {
    table: { schema, name: table },
    columns: Object.entries(columns).map(([one, short]) => column(one, short)),
    key: key.map((one) => names.indexOf(one)),
    identity,
    version: '1',
  };
}

export interface Sides {
  readonly blue: readonly Relation[];
  readonly green: readonly Relation[];
  readonly modules?: Readonly<Record<string, ModuleFunction>>;
}

export function compile(spec: unknown, { blue, green, modules = {} }: Sides): CompiledMapping {
  const lookup = (relations: readonly Relation[]) => {
    const byId = new Map(relations.map((one) => [tableId(one.table), one]));
    return (table: TableName): Relation | null => byId.get(tableId(table)) ?? null;
  };
  return compileMapping({
    spec: mappingSchema.parse(spec),
    tables: blue.map((one) => one.table),
    source: lookup(blue),
    target: lookup(green),
    modules: new Map(Object.entries(modules)),
  });
}

/** The problems of a mapping as `path: message`. */
export function problems(spec: unknown, sides: Sides): string[] {
  try {
    compile(spec, sides);
  } catch (error) {
    if (!(error instanceof VerdigrisError) || error.code !== 'MAPPING_INVALID') throw error;
    return (error.context['issues'] as MappingIssue[]).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    );
  }
  return [];
}

/** The way back of the same mapping; blue as a sink and green as a source are the same layouts unless said otherwise. */
export function compileBack(
  spec: unknown,
  sides: Sides & {
    readonly elements?: boolean;
    readonly misfits?: 'remove' | 'keep';
    readonly blueTarget?: readonly Relation[];
    readonly greenSource?: readonly Relation[];
  },
): ReverseMapping {
  const lookup = (relations: readonly Relation[]) => (table: TableName) =>
    relations.find((one) => tableId(one.table) === tableId(table)) ?? null;
  return compileReverse({
    compiled: compile(spec, sides),
    spec: mappingSchema.parse(spec),
    blueTarget: lookup(sides.blueTarget ?? sides.blue),
    greenSource: lookup(sides.greenSource ?? sides.green),
    modules: new Map(Object.entries(sides.modules ?? {})),
    elements: sides.elements ?? true,
    ...(sides.misfits === undefined ? {} : { misfits: sides.misfits }),
  });
}
