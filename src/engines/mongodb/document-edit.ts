import { DocumentMisfit, type DocumentEdit, type DocumentPath } from '../../core/document.ts';
import { TYPE, encode, fields, rawDocument, type Entries, type Field, type Raw } from './bson.ts';

/** Bytes of a document without fields. */
const EMPTY = 5;

/** What happens at one name. */
interface Node {
  readonly children: Map<string, Node>;
  /** What stands there is not taken over. */
  out: boolean;
  /** The value that is put there, as an index; -1: none. */
  own: number;
  /** Values under other names that take this place. */
  readonly beside: number[];
}

const newNode = (): Node => ({ children: new Map(), out: false, own: -1, beside: [] });

type Values = readonly (Raw | null)[];

/** Compiles an edit. The copy's fields keep their places; see {@link DocumentEdit}. */
export function documentEditor({
  keep,
  without,
  put,
}: DocumentEdit): (document: Buffer, values: Values) => Buffer {
  const root = newNode();
  // In the order of the values: what goes to the end goes there in that order.
  for (const [index, { path }] of put.entries()) nodeAt(root, path).own = index;
  for (const [index, { path, beside }] of put.entries())
    if (beside !== null && beside.join('\0') !== path.join('\0')) nodeAt(root, beside).beside.push(index);
  for (const path of without) nodeAt(root, path).out = true;
  const names = put.map(({ path }) => path.at(-1) as string);
  const newEntries = (node: Node, values: Values): [string, Raw][] =>
    [...node.children].flatMap(([name, child]): [string, Raw][] => {
      const value = values[child.own] ?? null;
      if (value !== null) return [[name, value]];
      const below = newEntries(child, values);
      return below.length === 0 ? [] : [[name, rawDocument(below)]];
    });
  if (!keep) return (_, values) => encode(newEntries(root, values));

  const level = (node: Node, document: Buffer, values: Values): Entries => {
    const made: [string, Raw][] = [];
    const placed = new Set<number>();
    const seen = new Set<Node>();
    for (const field of fields(document)) {
      const child = node.children.get(field.name);
      if (child === undefined) {
        made.push([field.name, field]);
        continue;
      }
      const again = seen.has(child);
      seen.add(child);
      for (const index of child.own < 0 ? child.beside : [child.own, ...child.beside]) {
        const value = values[index] ?? null;
        if (value === null || placed.has(index)) continue;
        placed.add(index);
        made.push([names[index] as string, value]);
      }
      if (child.out) {
        const below = again ? [] : newEntries(child, values);
        if (below.length > 0) made.push([field.name, rawDocument(below)]);
      } else if (child.children.size === 0) made.push([field.name, field]);
      else {
        const left = within(child, field, values);
        if (left !== null) made.push([field.name, left]);
      }
    }
    for (const [name, child] of node.children) {
      const value = values[child.own] ?? null;
      if (value !== null) {
        if (!placed.has(child.own)) made.push([name, value]);
      } else if (!seen.has(child)) {
        const below = newEntries(child, values);
        if (below.length > 0) made.push([name, rawDocument(below)]);
      }
    }
    return made;
  };
  /** Null: everything in it was taken out. */
  const within = (node: Node, field: Field, values: Values): Raw | null => {
    if (field.type === TYPE.document) {
      const left = level(node, field.bytes, values);
      return left.length === 0 && field.bytes.length > EMPTY ? null : rawDocument(left);
    }
    if (field.type === TYPE.array) throw new DocumentMisfit(`has an array on the way (${field.name})`);
    if (newEntries(node, values).length > 0)
      throw new DocumentMisfit(`would go into something that is no document (${field.name})`);
    return field;
  };
  return (document, values) => encode(level(root, document, values));
}

function nodeAt(root: Node, path: DocumentPath): Node {
  let node = root;
  for (const name of path) {
    let next = node.children.get(name);
    if (next === undefined) node.children.set(name, (next = newNode()));
    node = next;
  }
  return node;
}
