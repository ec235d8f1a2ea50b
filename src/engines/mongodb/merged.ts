import { encode, fields, type Field } from './bson.ts';

/** A document of a merged collection, taken apart. */
export interface SplitDocument {
  /** The owner's: every field that is no part's, `_id` included. */
  readonly own: Buffer;
  /** Per part its fields in the order in which the mapping has them, without `_id`; null where there are none. */
  readonly parts: readonly (Buffer | null)[];
}

const bytesOf = (of: readonly Field[]): Buffer => encode(of.map((field) => [field.name, field] as const));

/** @param parts the fields of each part */
export function splitter(parts: readonly (readonly string[])[]): (document: Buffer) => SplitDocument {
  const places = new Map(parts.flatMap((names, part) => names.map((name, at) => [name, { part, at }])));
  return (document) => {
    const own: Field[] = [];
    const found: Field[][] = parts.map(() => []);
    for (const field of fields(document)) {
      const place = places.get(field.name);
      (place === undefined ? own : (found[place.part] as Field[])).push(field);
    }
    if (found.every((one) => one.length === 0)) return { own: document, parts: parts.map(() => null) };
    const at = ({ name }: Field): number => places.get(name)?.at ?? 0;
    return {
      own: bytesOf(own),
      parts: found.map((one) => (one.length === 0 ? null : bytesOf(one.sort((a, b) => at(a) - at(b))))),
    };
  };
}

/** The owner's document and the parts' fields behind it, in the order of the parts. */
export function joined({ own, parts }: SplitDocument): Buffer {
  const there = parts.filter((part) => part !== null);
  return there.length === 0 ? own : bytesOf([own, ...there].flatMap((piece) => [...fields(piece)]));
}

/**
 * The document with other fields of a part: those that stand there keep their places, new ones go to the end, all else stays as it is.
 * @param names the fields of the part
 * @param part null: it has none
 */
export function replaced(document: Buffer, names: readonly string[], part: Buffer | null): Buffer {
  const left = new Map(part === null ? [] : [...fields(part)].map((field) => [field.name, field]));
  const made: Field[] = [];
  for (const field of fields(document)) {
    if (!names.includes(field.name)) made.push(field);
    const value = left.get(field.name);
    if (value === undefined) continue;
    left.delete(field.name);
    made.push(value);
  }
  return bytesOf([...made, ...left.values()]);
}

/** Nothing but the key is in it. */
export const isBare = (document: Buffer): boolean =>
  [...fields(document)].every(({ name }) => name === '_id');
