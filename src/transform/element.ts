import type { Cell, Column, Relation, Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import type { ColumnProgram } from './column.ts';
import type { ElementPart } from './column-back.ts';
import type { Feed } from './feed.ts';
import { textOf } from './operations/operation.ts';
import type { Way } from './way-back.ts';

/** One column of the child that stands at a place of the element. */
interface Member {
  readonly path: readonly (string | number)[];
  readonly input: number;
  readonly show: (text: string) => string;
}

/** The element of an exploded array from a row of the child table; a reason when it cannot be made. */
export function elementWay(feed: Feed, array: Column): Way | string {
  const parts = feed.target.programs.flatMap((program) => {
    const { element } = program;
    return element === null ? [] : [{ program, element, input: feed.read[program.column] as number }];
  });
  const lost = feed.target.programs.find(
    (program) => program.element === null && program.inputs.includes(feed.blue.columns.length),
  );
  if (lost !== undefined) return `${lost.name} is made of the element in a way that does not come back`;
  const unusable = parts.find(
    ({ element, input }) =>
      input < 0 || element.back === null || element.path.some((part) => typeof part === 'number'),
  );
  if (unusable !== undefined) return `${unusable.program.name} does not come back into the element`;
  if (parts.length === 0) return `${feed.name} holds nothing of the element`;
  const members = parts.map(({ element, input }): Member => ({
    path: element.path,
    input,
    show: shower(feed.green.columns[input] as Column, element),
  }));
  const whole = members.find((member) => member.path.length === 0);
  const root = new Map<string, Node>();
  if (whole === undefined) for (const member of members) place(root, member);
  const text = whole === undefined ? (tuple: Tuple) => objectText(root, tuple) ?? '{}' : memberText(whole);
  return {
    blue: feed.blue.columns.length,
    name: array.name,
    inputs: [...new Set(members.map((member) => member.input))],
    evaluate: (tuple) => text(tuple) ?? 'null',
    policy: 'reject',
    exact: false,
    faithful: false,
    operation: 'array of the rows',
    reason: '',
    checks: parts.map(({ program }): ColumnProgram => program),
  };
}

/** The relation of an array's elements. */
export function elementsRelation(of: Relation, array: number): Relation {
  const plain = { nullable: false, generated: false, hasDefault: false, mayBeUnchanged: false };
  const { name } = of.columns[array] as Column;
  const key = of.key.map((index) => of.columns[index] as Column);
  const columns: Column[] = [
    ...key,
    { ...plain, name: 'ordinal', type: 'integer', kind: 'integer', exact: true },
    { ...plain, name: 'element', type: 'json', kind: 'json', exact: false },
  ];
  return {
    table: { schema: of.table.schema, name: `${of.table.name}.${name}[]` },
    columns,
    key: [...key.keys(), key.length],
    identity: 'key',
    version: of.version,
  };
}

type Node = Member | Map<string, Node>;

function place(root: Map<string, Node>, member: Member): void {
  let at = root;
  const keys = member.path.map(String);
  for (const key of keys.slice(0, -1)) {
    const below = at.get(key);
    const next = below instanceof Map ? below : new Map<string, Node>();
    at.set(key, next);
    at = next;
  }
  const last = keys.at(-1) as string;
  if (!at.has(last)) at.set(last, member);
}

/** Members that are null are left out; null when nothing is left of an inner object. */
function objectText(node: ReadonlyMap<string, Node>, tuple: Tuple): string | null {
  const parts: string[] = [];
  for (const [key, below] of node) {
    const text = below instanceof Map ? objectText(below, tuple) : memberText(below)(tuple);
    if (text !== null) parts.push(`${JSON.stringify(key)}: ${text}`);
  }
  return parts.length === 0 ? null : `{${parts.join(', ')}}`;
}

const memberText =
  ({ input, show }: Member) =>
  (tuple: Tuple): string | null => {
    const text = textOf(tuple[input] as Cell);
    return text === null ? null : show(text);
  };

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** JSON of a value. Whether a number was a number or a text before is not known: columns of numbers become numbers. */
function shower({ kind }: Column, { back }: ElementPart): (text: string) => string {
  const apply = back as NonNullable<ElementPart['back']>;
  const value = (text: string): string => apply(text) ?? 'null';
  switch (kind) {
    case 'json':
      return value;
    case 'boolean':
      return (text) =>
        value(text) === 't' ? 'true' : value(text) === 'f' ? 'false' : JSON.stringify(value(text));
    case 'integer':
    case 'decimal':
    case 'float':
      return (text) => {
        const number = value(text);
        if (!NUMBER.test(number)) throw new BadValue('is a number that JSON does not have');
        return number;
      };
    default:
      return (text) => JSON.stringify(value(text));
  }
}
