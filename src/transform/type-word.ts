import type { Column, Kind } from '../core/table.ts';

/** What a type's word says beyond the kind. Null: not known from the word, the server decides. */
export interface TypeWord {
  /** Null when the word is not one that every engine understands alike. */
  readonly kind: Kind | null;
  /** The word without length or precision, in one spelling. */
  readonly name: string;
  /** Integers: the least and the greatest value. */
  readonly range: readonly [bigint, bigint] | null;
  /** Decimals: digits after the point that are kept. */
  readonly scale: number | null;
  /** Decimals: digits in all. */
  readonly precision: number | null;
  /** Text: characters. */
  readonly length: number | null;
  /** Times: digits of a second that are kept. */
  readonly fraction: number | null;
  /** Floats: single precision. */
  readonly single: boolean;
  /** Values are filled up with spaces. */
  readonly padded: boolean;
}

const signed = (bits: bigint): readonly [bigint, bigint] => [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n];
const unsigned = (bits: bigint): readonly [bigint, bigint] => [0n, 2n ** bits - 1n];

const INTEGERS: Readonly<Record<string, bigint>> = {
  tinyint: 8n,
  smallint: 16n,
  int2: 16n,
  mediumint: 24n,
  int: 32n,
  integer: 32n,
  int4: 32n,
  bigint: 64n,
  int8: 64n,
};

const KINDS: Readonly<Record<string, Kind>> = {
  numeric: 'decimal',
  decimal: 'decimal',
  real: 'float',
  float4: 'float',
  float: 'float',
  float8: 'float',
  double: 'float',
  'double precision': 'float',
  boolean: 'boolean',
  bool: 'boolean',
  text: 'text',
  string: 'text',
  varchar: 'text',
  'character varying': 'text',
  char: 'text',
  character: 'text',
  bpchar: 'text',
  citext: 'text',
  bytea: 'bytes',
  blob: 'bytes',
  bytes: 'bytes',
  date: 'date',
  time: 'time',
  'time without time zone': 'time',
  timestamp: 'timestamp',
  datetime: 'timestamp',
  'timestamp without time zone': 'timestamp',
  timestamptz: 'timestamptz',
  'timestamp with time zone': 'timestamptz',
  interval: 'interval',
  uuid: 'uuid',
  json: 'json',
  jsonb: 'json',
};

const ONE_NAME: Readonly<Record<string, string>> = {
  int2: 'smallint',
  int: 'integer',
  int4: 'integer',
  int8: 'bigint',
  decimal: 'numeric',
  float4: 'real',
  float: 'double precision',
  float8: 'double precision',
  double: 'double precision',
  bool: 'boolean',
  'character varying': 'varchar',
  string: 'text',
  character: 'char',
  bpchar: 'char',
  timestamptz: 'timestamp with time zone',
  'timestamp without time zone': 'timestamp',
  datetime: 'timestamp',
  'time without time zone': 'time',
};

export function readType(type: string): TypeWord {
  const lower = type.toLowerCase().trim();
  const digits = /\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)/.exec(lower);
  const bare = lower
    .replace(/\([^)]*\)/, '')
    .replace(/\s+/g, ' ')
    .trim();
  const isUnsigned = / unsigned\b/.test(bare);
  const name = bare.replace(/ unsigned\b| zerofill\b/g, '');
  const bits = Object.hasOwn(INTEGERS, name) ? (INTEGERS[name] as bigint) : null;
  const kind = bits !== null ? 'integer' : Object.hasOwn(KINDS, name) ? (KINDS[name] as Kind) : null;
  const timed = kind === 'time' || kind === 'timestamp' || kind === 'timestamptz';
  return {
    kind,
    name: (ONE_NAME[name] ?? name) + (isUnsigned ? ' unsigned' : ''),
    range: bits === null ? null : isUnsigned ? unsigned(bits) : signed(bits),
    scale: kind === 'decimal' && digits !== null ? Number(digits[2] ?? 0) : null,
    precision: kind === 'decimal' && digits !== null ? Number(digits[1]) : null,
    // `char` alone is one character; `bpchar` and `varchar` alone have no bound.
    length:
      kind !== 'text'
        ? null
        : digits !== null
          ? Number(digits[1])
          : name === 'char' || name === 'character'
            ? 1
            : null,
    fraction: timed ? Number(digits?.[1] ?? (name === 'datetime' ? 0 : 6)) : null,
    single: name === 'real' || name === 'float4',
    padded: name === 'char' || name === 'character' || name === 'bpchar',
  };
}

/** The words of a column's type; what they say is used only where it agrees with the column's kind. */
export function typeOf(column: Pick<Column, 'kind' | 'type'>): TypeWord {
  const word = readType(column.type);
  if (word.kind === column.kind) return word;
  return {
    kind: column.kind,
    name: word.name,
    range: null,
    scale: null,
    precision: null,
    length: null,
    fraction: null,
    single: false,
    padded: false,
  };
}

/**
 * Why the text of one column cannot stand in the other as it is; null when it can. A server that would round, cut or fill up
 * without an error counts as "cannot".
 */
export function copyProblem(from: Column, to: Column): string | null {
  const source = typeOf(from);
  const target = typeOf(to);
  const shown = `${from.type} does not fit ${to.type} as it is`;
  if (from.kind !== to.kind) {
    return from.kind === 'integer' && to.kind === 'decimal' && holdsInteger(source, target) ? null : shown;
  }
  switch (from.kind) {
    case 'integer':
      return source.range && target.range && !within(source.range, target.range) ? shown : null;
    case 'decimal':
      if (target.scale === null) return null;
      if (source.scale === null || source.scale > target.scale) return `${shown}: the server would round`;
      return wholeDigits(source) > wholeDigits(target) ? shown : null;
    case 'float':
      return target.single && !source.single ? `${shown}: the server would round` : null;
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return (source.fraction ?? 6) > (target.fraction ?? 6) ? `${shown}: the server would round` : null;
    case 'text':
      if (to.labels === undefined) {
        // Servers cut spaces at the end that are too many without an error.
        return target.length !== null &&
          (source.length === null || source.length > target.length) &&
          from.labels === undefined
          ? shown
          : null;
      }
      return from.labels?.every((label) => to.labels?.includes(label)) === true
        ? null
        : `${to.type} has labels that values of ${from.type} need not be`;
    case 'array':
      return arrayProblem(from, to) ? shown : null;
    case 'other':
    case 'document':
      return source.name === target.name ? null : shown;
    case 'boolean':
    case 'bytes':
    case 'date':
    case 'interval':
    case 'uuid':
    case 'json':
      return null;
  }
}

const wholeDigits = (type: TypeWord): number => (type.precision ?? Infinity) - (type.scale ?? 0);

function holdsInteger(source: TypeWord, target: TypeWord): boolean {
  if ((target.scale ?? 0) < 0) return false;
  if (target.precision === null) return true;
  return source.range !== null && wholeDigits(target) >= source.range[1].toString().length;
}

/** Digits in brackets after the element's name are the element's length; `[]` may stand more than once. */
function arrayProblem(from: Column, to: Column): boolean {
  const element = (type: string): string => type.replace(/(\[\d*\])+$/, '').replace(/ array(\[\d+\])?$/i, '');
  const source = readType(element(from.type));
  const target = readType(element(to.type));
  if (source.kind === null || target.kind === null) return source.name !== target.name;
  const column = (type: string, kind: Kind): Column => ({ ...from, type, kind });
  return copyProblem(column(element(from.type), source.kind), column(element(to.type), target.kind)) !== null;
}

export const within = (inner: readonly [bigint, bigint], outer: readonly [bigint, bigint]): boolean =>
  inner[0] >= outer[0] && inner[1] <= outer[1];
