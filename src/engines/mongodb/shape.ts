import { MaxKey } from 'mongodb';
import { UNCHANGED, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import { TYPE, fields, numberOf, rawDocument, rawInt, type Field, type Raw } from './bson.ts';
import { partsOf } from './document.ts';
import { keyOfCell, keyTextOf } from './key.ts';
import { splitter } from './merged.ts';
import { valueOf } from './value.ts';

/** How documents of a collection are rows of a relation: `_id` and document, or, of elements of arrays, the parent's key, the number, and the document. */
export interface Shape {
  /** Index of the column with the document. */
  readonly document: number;
  /** The row of a document; its bytes are copied. */
  row(document: Buffer): Tuple;
  /** The `_id` of a row; null: only the parent is known. */
  id(row: Tuple): Raw | null;
  /** What stands in `_id` at a bound of the first key column. */
  bound(first: Cell): unknown;
  /** A condition for all documents of a parent, by its key. */
  family(first: Cell): object;
}

const plain: Shape = {
  document: 1,
  row: (document) => {
    for (const field of fields(document))
      if (field.name === '_id') return [keyTextOf(field), Buffer.from(document)];
    return [keyTextOf({ type: 0, bytes: Buffer.alloc(0) }), Buffer.from(document)];
  },
  id: (row) => keyOfCell(row[0] as Cell),
  bound: (first) => valueOf(keyOfCell(first)),
  family: (first) => ({ _id: { $eq: valueOf(keyOfCell(first)) } }),
};

const known = new WeakMap<Relation, Shape>();

export function shapeOf(relation: Relation): Shape {
  let shape = known.get(relation);
  if (shape === undefined) known.set(relation, (shape = make(relation)));
  return shape;
}

function make(relation: Relation): Shape {
  if (relation.key.length > 1) return children(relation);
  const parts = partsOf(relation);
  if (parts.length === 0) return plain;
  const split = splitter(parts);
  return {
    ...plain,
    row: (document) => {
      const { own, parts: cells } = split(Buffer.from(document));
      return [plain.row(document)[0] as Cell, own, ...cells];
    },
  };
}

/** The names of a column of the key: `_id.parent`. */
const nameOf = (relation: Relation, index: number): string =>
  (relation.columns[index]?.name ?? '').slice('_id.'.length);

function children(relation: Relation): Shape {
  const parent = nameOf(relation, 0);
  const number = nameOf(relation, 1);
  const parts = (id: Field): readonly [Field, Field] | null => {
    if (id.type !== TYPE.document) return null;
    const [first, second, more] = fields(id.bytes);
    if (first?.name !== parent || second?.name !== number || more !== undefined) return null;
    return second.type === TYPE.int32 ? [first, second] : null;
  };
  const bound = (first: Cell): Map<string, unknown> => new Map([[parent, valueOf(keyOfCell(first))]]);
  return {
    document: 2,
    row: (document) => {
      const id = [...fields(document)].find(({ name }) => name === '_id');
      const found = id === undefined ? null : parts(id);
      const copy = Buffer.from(document);
      // Somebody else's: no parent has it.
      if (found === null) return [id === undefined ? '' : keyTextOf(id), null, copy];
      return [keyTextOf(found[0]), String(numberOf(found[1])), copy];
    },
    id: (row) =>
      row[1] === UNCHANGED || row[1] === undefined
        ? null
        : rawDocument([
            [parent, keyOfCell(row[0] as Cell)],
            [number, rawInt(Number(row[1]))],
          ]),
    bound,
    family: (first) => ({
      _id: { $gte: bound(first), $lte: new Map([...bound(first), [number, new MaxKey()]]) },
    }),
  };
}

/** The row of a document of a collection as it is: its key as text, and the bytes, which are copied out of the reply they came in. */
export const rowOfDocument = (document: Buffer): Tuple => plain.row(document);
