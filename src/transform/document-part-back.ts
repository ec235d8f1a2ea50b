import type { Cell, Relation } from '../core/table.ts';
import type { ColumnProgram } from './column.ts';
import type { ColumnWay } from './column-ways.ts';
import type { DocumentPart } from './document-column.ts';
import type { Feed } from './feed.ts';
import { touchedBy, type Way } from './way-back.ts';

/** A feed whose documents are parts of those of green. */
export interface PartOfDocument {
  readonly program: ColumnProgram;
  readonly part: DocumentPart | string;
}

export function documentPartOf({ target }: Feed): PartOfDocument | null {
  if (target.role !== 'part') return null;
  for (const program of target.programs) {
    const part = program.document?.part;
    if (part !== undefined) return { program, part };
  }
  return null;
}

/** From green's document to the fields of blue's that are in it. */
export function partWay({ read }: Feed, program: ColumnProgram, part: DocumentPart): Way {
  const index = program.document?.gives ?? -1;
  const from = read[program.document?.reads ?? -1] as number;
  const { region } = program.document ?? {};
  // Where blue has none of the fields green has none either.
  const evaluate: ColumnProgram['evaluate'] = (tuple) =>
    tuple[index] === null ? null : program.evaluate(tuple);
  return {
    blue: index,
    name: part.fields.join(', '),
    inputs: [from],
    evaluate: (tuple) => part.back(tuple[from] as Cell),
    policy: 'reject',
    exact: true,
    faithful: false,
    operation: part.operation,
    reason: '',
    checks: [{ ...program, evaluate }],
    ...(region === undefined ? {} : { touched: touchedBy(region) }),
  };
}

/**
 * How the columns of blue come back: the key, the fields, and what beside them is not on green.
 * @param own the column with that rest
 */
export function partColumns(
  { columns }: Relation,
  own: number,
  { green, name: table }: Feed,
  ways: readonly { readonly to: number; readonly way: Way }[],
): ColumnWay[] {
  return columns.map(({ name: column }, to) => {
    const way = ways.find((one) => one.to === to)?.way;
    const from = (way?.inputs ?? []).map((input) => `${table}.${green.columns[input]?.name ?? ''}`);
    const operation = way?.operation ?? 'none';
    if (to !== own) return { column, to, way: 'exact', from, operation, reason: '' };
    const reason = 'only some fields of it are on green, the others stay as they are on blue';
    return { column, to, way: 'lossy', from, operation, reason };
  });
}
