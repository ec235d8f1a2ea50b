import { z } from 'zod';

/**
 * The `tables:` list of the configuration: which blue tables take part and how their rows become rows of green.
 * Everything that needs the tables themselves is checked by `compileMapping`.
 */

const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()]);
export type Scalar = z.output<typeof scalar>;

const name = z.string().min(1);

const onError = z
  .union([
    z.enum(['fail', 'reject', 'null']),
    z.null(),
    z.strictObject({ value: scalar.describe('Written instead.') }),
  ])
  .describe(
    'What a value does that the mapping cannot take: fail stops the stream at that position, reject sets the row aside, null and a value are written instead. Default: fail.',
  );

const onUnmapped = z
  .union([
    z.enum(['fail', 'reject', 'null']),
    z.null(),
    z.strictObject({ value: scalar.describe('Written instead.') }),
  ])
  .describe(
    'map: what a value does that `values` does not have; same words as on_error. Default: as on_error.',
  );

export const OPERATION_NAMES = [
  'copy',
  'cast',
  'map',
  'unmap',
  'scale',
  'trim',
  'lower',
  'upper',
  'split',
  'concat',
  'coalesce',
  'json_get',
  'json_build',
  'timezone',
  'timezone_strip',
  'hash',
  'mask',
] as const;
export type OperationName = (typeof OPERATION_NAMES)[number];

const operationName = z.enum(OPERATION_NAMES);

const OPTIONS = {
  cast: z
    .string()
    .min(1)
    .optional()
    .describe('Type to convert to, in the words of green; checked, never rounded or cut.'),
  assume: z
    .string()
    .min(1)
    .optional()
    .describe('timezone, cast: time zone that timestamps without one are in (IANA name).'),
  on_ambiguous: z
    .enum(['earlier', 'later', 'reject'])
    .optional()
    .describe(
      'timezone: which moment a local time is that came twice when clocks were set back. Default: reject.',
    ),
  nonexistent: z
    .enum(['shift', 'reject'])
    .optional()
    .describe(
      'timezone: a local time that clocks left out when they were set forward; shift moves it past the gap. Default: reject.',
    ),
  to: z.string().min(1).optional().describe('timezone_strip: time zone whose clock is read (IANA name).'),
  values: z.record(z.string(), scalar).optional().describe('map, unmap: value of blue to value of green.'),
  on_unmapped: onUnmapped.optional(),
  factor: z
    .union([z.number(), z.string()])
    .optional()
    .describe('scale: exact decimal factor; write it as text when it has many digits.'),
  by: z.string().min(1).optional().describe('split: the separator.'),
  take: z
    .union([z.enum(['first', 'rest']), z.int().min(1)])
    .optional()
    .describe('split: part before the first separator, everything after it, or the n-th part (from 1).'),
  empty: scalar
    .optional()
    .describe(
      'split: what an empty or missing part becomes. Without it an empty part stays empty, a missing one is null.',
    ),
  of: z
    .union([z.array(name), z.record(z.string(), name)])
    .optional()
    .describe(
      'concat, coalesce: columns in order. json_build: columns, or key to column. module: further columns it reads.',
    ),
  with: z
    .string()
    .optional()
    .describe('concat: put between the parts; mask: the character that covers. Default: nothing; *.'),
  skip_null: z
    .boolean()
    .optional()
    .describe('concat: leave out parts that are null instead of giving null. Default: false.'),
  path: z
    .union([z.string().min(1), z.array(z.union([z.string(), z.int().min(0)]))])
    .optional()
    .describe('json_get: keys and indexes (from 0), as a list or with dots.'),
  algorithm: z
    .enum(['sha256', 'sha384', 'sha512', 'sha1', 'md5'])
    .optional()
    .describe('hash: result as hex. Default: sha256.'),
  key: z
    .string()
    .min(1)
    .optional()
    .describe('hash: secret for an HMAC, so that values cannot be guessed. Default: none.'),
  keep_first: z.int().min(0).optional().describe('mask: characters left readable at the start. Default: 0.'),
  keep_last: z.int().min(0).optional().describe('mask: characters left readable at the end. Default: 0.'),
};

const operationStep = z
  .union([operationName, z.strictObject({ op: operationName.describe('The operation.'), ...OPTIONS })])
  .describe('An operation, or an operation with options of its own.');

const COLUMN = {
  from: name
    .optional()
    .describe(
      'Column of blue; of an exploded element: `name` or `name.key`; of documents: a field by its path, `a.b`. Default: the one of the same name.',
    ),
  op: z
    .union([operationName, z.array(operationStep).min(1)])
    .optional()
    .describe('Operation, or a list that is done in order.'),
  ...OPTIONS,
  value: scalar.optional().describe('Constant.'),
  default: scalar.optional().describe('Written instead of null.'),
  on_error: onError.optional(),
  absent: scalar
    .optional()
    .describe('Merge: value while the row of this table does not exist. Default: null.'),
  module: z
    .string()
    .min(1)
    .optional()
    .describe('TypeScript or JavaScript file with a function; relative to the configuration.'),
  export: z.string().min(1).optional().describe('Name of the function in the module. Default: default.'),
  pure: z
    .boolean()
    .optional()
    .describe(
      'module: the function gives the same for the same row. If false its column is not verified. Default: true.',
    ),
};

const columnObject = z.strictObject(COLUMN);
/** One column in long form. */
export type ColumnObject = z.output<typeof columnObject>;

const column = z
  .union([
    z.enum(['copy', 'default']).describe('copy: the column of the same name. default: left to the server.'),
    columnObject,
  ])
  .describe('How a column of green comes from blue.');
export type ColumnSpec = z.output<typeof column>;

const reverseColumn = z
  .strictObject(COLUMN)
  .describe('How a column of blue comes back from green; replaces the derived way.');

const explode = z
  .strictObject({
    array: name.describe('JSON column of blue that holds an array.'),
    as: name.describe('Name under which `columns` refer to the element.'),
    ordinal: name.describe("Column of green for the element's number, from 1; last column of the key."),
    on_error: z
      .enum(['fail', 'reject'])
      .optional()
      .describe('What a value does that is not an array. Default: fail.'),
  })
  .describe('One row of green per element of a JSON array.');

const keyPart = z
  .union([
    name,
    z.strictObject({ value: scalar.describe('Constant.') }),
    z.strictObject({ from: name.describe('Column of blue.') }),
  ])
  .describe('Column of blue, or a constant.');

const target = z.strictObject({
  table: name.describe('Table of green, `schema.name`.'),
  key: z.record(z.string(), keyPart).optional().describe("Columns of green's key, and what they come from."),
  columns: z
    .record(z.string(), column)
    .optional()
    .describe(
      'Column of green to how it is made; of documents: a field by its path, `a.b` (`\\.` is a dot of a name). `"*": copy` stands for every other column that has the same name on blue, and for every other field.',
    ),
  drop: z.array(name).optional().describe('Columns (or fields) of blue that go nowhere on purpose.'),
  emit_when: z
    .string()
    .min(1)
    .optional()
    .describe('CEL condition over `row`: only then the row is in this table. Turning false deletes it.'),
  owner: z.boolean().optional().describe('Merge: rows of this table make and end the rows of green.'),
  explode: explode.optional(),
});
export type TargetSpec = z.output<typeof target>;

const reverse = z
  .strictObject({
    join: z
      .string()
      .min(1)
      .optional()
      .describe('Which other green tables belong to a row, for the way back of a split.'),
    columns: z
      .record(z.string(), reverseColumn)
      .optional()
      .describe('Column (or field) of blue to how it is made from green.'),
    off: z
      .record(z.string(), scalar)
      .optional()
      .describe(
        'Column of blue to its value while the second green table that feeds it has no row; must make the emit_when of that table false. Default: null.',
      ),
  })
  .describe('The way back, where it is not the inverse of the way there.');

const entry = z.strictObject({
  from: name.describe('Table of blue, `schema.name`; `*` stands for any characters.'),
  key: z.array(name).optional().describe("The table's key, as a check: must be the key the server has."),
  when: z
    .string()
    .min(1)
    .optional()
    .describe('CEL condition over `row`: only then the row takes part, in copy and stream alike.'),
  ignore: z.boolean().optional().describe('Leave these tables out. Default: false.'),
  to: z
    .array(target)
    .min(1)
    .optional()
    .describe('Tables of green. Default: the table of the same name, every column as it is.'),
  reverse: reverse.optional(),
});
export type TableSpec = z.output<typeof entry>;

/** The `tables:` list. */
export const mappingSchema = z.array(entry).min(1);
export type MappingSpec = z.output<typeof mappingSchema>;
/** The way back of one table. */
export type ReverseSpec = z.output<typeof reverse>;

/** The names of a module's function, for the map of loaded functions. */
export const moduleKey = (file: string, exported: string): string => `${file}#${exported}`;

/** A function of a module: of the value and the row where the mapping names a column (`from`), else of the row. */
export type ModuleFunction = (...args: readonly unknown[]) => unknown;

/** The functions that a mapping needs, each once. */
export function moduleReferences(spec: MappingSpec): { readonly module: string; readonly export: string }[] {
  const found = new Map<string, { module: string; export: string }>();
  const add = (columns: Readonly<Record<string, ColumnSpec>> | undefined): void => {
    for (const one of Object.values(columns ?? {})) {
      if (typeof one === 'string' || one.module === undefined) continue;
      const exported = one.export ?? 'default';
      found.set(moduleKey(one.module, exported), { module: one.module, export: exported });
    }
  };
  for (const table of spec) {
    for (const one of table.to ?? []) add(one.columns);
    add(table.reverse?.columns);
  }
  return [...found.values()];
}
