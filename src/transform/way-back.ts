import type { Cell, Column, Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { isMadeOf, type ColumnProgram } from './column.ts';
import type { Feed } from './feed.ts';
import { concat } from './operations/head.ts';
import { asIsProblem, convert, IDENTITY } from './operations/convert.ts';
import { textOf, type Shape } from './operations/operation.ts';
import { typeOf } from './type-word.ts';

/** How one column of blue is made from a row of one green table. */
export interface Way {
  /** Index in blue's relation as a source; of an exploded array's element the number of columns; -1: none of them. */
  readonly blue: number;
  readonly name: string;
  /** Indexes in green's relation as a source. */
  readonly inputs: readonly number[];
  /** Needs every input. @throws BadValue */
  readonly evaluate: (tuple: Tuple) => Cell;
  readonly policy: 'fail' | 'reject';
  readonly exact: boolean;
  /** Not only an equal value comes back but the same text. */
  readonly faithful: boolean;
  readonly operation: string;
  /** Why it is not exact; empty when it is. */
  readonly reason: string;
  /** An array whose elements come by themselves: empty where the row arrives under a key. */
  readonly array?: boolean;
  /** Of one input that is read in part: whether that part is another one now. Absent: it is where the input is. */
  readonly touched?: (before: Cell, now: Cell) => boolean;
  /** Columns of green that must come out again when what was made is mapped once more. */
  readonly checks: readonly ColumnProgram[];
}

/**
 * The way from one green table: exact if there is one; else, with `sections`, a value that becomes green's on the way there. Null when
 * there is none; {@link whyNone} says why.
 */
export function wayFrom(feed: Feed, index: number, sections: boolean): Way | null {
  const readers = readersOf(feed, index);
  for (const program of readers) {
    const way = 'apply' in program.inverse ? single(feed, index, program) : null;
    if (way !== null) return way;
  }
  const halves = splitHalves(feed, index, readers);
  if (halves !== null || !sections) return halves;
  for (const program of readers) {
    const way = single(feed, index, program);
    if (way !== null) return way;
  }
  return null;
}

/** Columns of green that are made of this one of blue. */
const readersOf = ({ target }: Feed, index: number): readonly ColumnProgram[] =>
  target.programs.filter((program) => isMadeOf(program, index));

/** Why no column of this table gives the blue column back. */
export function whyNone(feed: Feed, index: number): string[] {
  if (feed.target.explode?.array === index) return [`${feed.name} holds one row per element`];
  return readersOf(feed, index).map(({ name, inverse }) =>
    'reason' in inverse ? `${name}: ${inverse.reason}` : `${name}: its type has no way back`,
  );
}

/** Refuses null where blue has none. */
export function guarded(column: Column, evaluate: (tuple: Tuple) => Cell): (tuple: Tuple) => Cell {
  if (column.nullable) return evaluate;
  return (tuple) => {
    const cell = evaluate(tuple);
    if (cell === null) throw new BadValue('cannot be null on blue');
    return cell;
  };
}

function single(feed: Feed, index: number, program: ColumnProgram): Way | null {
  const { inverse } = program;
  const from = feed.read[program.column] as number;
  if (program.document !== undefined) return ofDocument(feed, index, program);
  if (from < 0 || program.inputs.length !== 1 || program.inputs[0] !== index) return null;
  const blue = feed.blue.columns[index] as Column;
  const green = feed.green.columns[from] as Column;
  const apply = 'apply' in inverse ? inverse.apply : inverse.section;
  if (apply === undefined) return null;
  const last = program.copy === null ? singlePrecision(green, blue) : copyBack(green, blue);
  if (typeof last === 'string') return null;
  const padded = typeOf(blue).padded && !typeOf(green).padded;
  const reason = 'reason' in inverse ? inverse.reason : padded ? 'blue fills it up with spaces' : '';
  const plain = program.copy !== null && last === IDENTITY;
  const convertCell = (cell: Cell): Cell => {
    const text = textOf(cell);
    const value = text === null ? null : apply(text);
    return value === null ? null : last(value);
  };
  return {
    blue: index,
    name: blue.name,
    inputs: [from],
    evaluate: guarded(
      blue,
      plain ? (tuple) => tuple[from] as Cell : (tuple) => convertCell(tuple[from] as Cell),
    ),
    policy: 'reject',
    exact: reason === '',
    faithful: reason === '' && (program.copy !== null || oneText(blue)),
    operation:
      program.copy === null ? `inverse of ${program.operation}` : plain ? 'copy' : `cast ${blue.type}`,
    reason: reason === '' ? '' : `${program.name}: ${reason}`,
    checks: reason === '' && program.copy === null ? [program] : [],
  };
}

/** A document is made of a document; green's must come out again, save for the order of fields where that is not kept. */
function ofDocument(feed: Feed, index: number, program: ColumnProgram): Way | null {
  const { back, region } = program.document ?? {};
  const from = feed.read[program.document?.reads ?? -1] ?? -1;
  if (from < 0 || typeof back !== 'function') return null;
  return {
    blue: index,
    name: (feed.blue.columns[index] as Column).name,
    inputs: [from],
    evaluate: (tuple) => back(tuple[from] as Cell),
    policy: 'reject',
    exact: true,
    faithful: false,
    operation: program.document?.backOperation ?? '',
    reason: '',
    // The key is in the document, which is mapped once more.
    checks: program.document?.again === null ? [] : [program],
    ...(region === undefined ? {} : { touched: touchedBy(region) }),
  };
}

/** A document of green that does not fit is looked at again. */
export const touchedBy =
  (region: (document: Cell) => string) =>
  (before: Cell, now: Cell): boolean => {
    try {
      return region(before) !== region(now);
    } catch (error) {
      if (error instanceof BadValue) return true;
      throw error;
    }
  };

/** Equal values have equal text: with a fixed number of digits decimals too. */
const oneText = (column: Column): boolean =>
  column.exact || (column.kind === 'decimal' && typeOf(column).scale !== null);

/** Back into the type that green's was widened from; checked. The reason when there is no way. */
function copyBack(green: Column, blue: Column): ((text: string) => string) | string {
  const { kind, type, nullable, labels } = green;
  const shape: Shape = { kind, type, nullable, derived: false, ...(labels === undefined ? {} : { labels }) };
  if (asIsProblem(shape, blue) === null) return IDENTITY;
  if (kind === 'float' && blue.kind === 'float') return fitsSingle;
  const found = convert(shape, blue, null);
  return typeof found === 'string' ? found : found.apply;
}

const singlePrecision = (green: Column, blue: Column): ((text: string) => string) =>
  blue.kind === 'float' && typeOf(blue).single && !typeOf(green).single ? fitsSingle : IDENTITY;

/** The text of a float, where a single one shows the same number. */
function fitsSingle(text: string): string {
  const number = Number(text);
  if (!Number.isFinite(number)) return text;
  const stored = Math.fround(number);
  for (let digits = 1; digits <= 9 && Number.isFinite(stored); digits++) {
    const shown = Number(stored.toPrecision(digits));
    if (Math.fround(shown) !== stored) continue;
    if (shown === number) return text;
    break;
  }
  throw new BadValue('has more digits than a float of single precision keeps');
}

/** `split` into first and rest by one separator, both kept: together they are the text. */
function splitHalves(feed: Feed, index: number, readers: readonly ColumnProgram[]): Way | null {
  const blue = feed.blue.columns[index] as Column;
  for (const first of readers) {
    const { splitPart } = first;
    if (splitPart?.take !== 'first') continue;
    const rest = readers.find((one) => one.splitPart?.take === 'rest' && one.splitPart.by === splitPart.by);
    const inputs = [first, ...(rest === undefined ? [] : [rest])].map(
      (program) => feed.read[program.column] as number,
    );
    if (rest === undefined || inputs.some((input) => input < 0)) continue;
    const join = concat.compile({
      inputs: [],
      options: { with: splitPart.by, skip_null: true },
      problem: () => undefined,
    });
    const last = convert({ kind: 'text', type: 'text', nullable: true, derived: true }, blue, null);
    if (join === null || typeof last === 'string') continue;
    return {
      blue: index,
      name: blue.name,
      inputs,
      evaluate: guarded(blue, (tuple) => {
        const text = join.apply(inputs.map((input) => textOf(tuple[input] as Cell)));
        return text === null ? null : last.apply(text);
      }),
      policy: 'reject',
      exact: true,
      faithful: true,
      operation: `concat with ${JSON.stringify(splitPart.by)}`,
      reason: '',
      checks: [first, rest],
    };
  }
  return null;
}
