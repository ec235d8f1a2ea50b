import type { ClientSession } from 'mongodb';
import { UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import { encode, fieldOf, numberOf, rawNull, type Raw } from './bson.ts';
import { ID } from './document.ts';
import { idFilter, keyTextOf } from './key.ts';
import { isBare, joined, replaced, splitter } from './merged.ts';
import { piecesOf } from './sink-cut.ts';
import { idOf } from './sink-packed.ts';
import { allOf, readAll, send, type ApplyOptions, type MergedPlace, type Place } from './sink-write.ts';
import { deleteStatement, replaceStatement } from './update.ts';
import { valueOf } from './value.ts';

const UNCHANGED_OR_NONE: readonly unknown[] = [UNCHANGED, undefined];

/** Rows of the owner leave: what the parts set stays behind, waiting. Does nothing where nothing is merged. */
export async function keepParts(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const { merged } = place;
  if (merged === null || merged.waiting === null) return;
  const split = splitter(merged.parts);
  for await (const piece of pieces(rows, place, options)) {
    const found = await documentsAt(piece, place, options.session);
    const left = new Map<string, Buffer>();
    for (const [key, document] of found) {
      const { parts } = split(document);
      if (parts.some((part) => part !== null))
        left.set(key, joined({ own: encode([['_id', idOf(document)]]), parts }));
    }
    await replaceWaiting([...found.values()].map(idOf), [...left.values()], merged.waiting, options);
  }
}

/** Rows of the owner and their documents as they come onto the sink. */
interface Joined {
  readonly rows: readonly Tuple[];
  readonly documents: readonly Buffer[];
}

/**
 * Documents of the owner with what the parts have set: what waits there, and, where they are there already, what stands in them. In pieces, each
 * of which has to be written before the next is asked for.
 * @param own the document of a row
 */
export async function* withParts(
  all: readonly Tuple[],
  own: (row: Tuple) => Buffer,
  place: Place,
  options: ApplyOptions,
  kind: 'insert' | 'update' = 'insert',
): AsyncGenerator<Joined> {
  const { merged } = place;
  if (merged === null || merged.waiting === null) {
    yield { rows: all, documents: all.map(own) };
    return;
  }
  const split = splitter(merged.parts);
  const none = merged.parts.map(() => null);
  for await (const rows of pieces(all, place, options)) {
    const there =
      kind === 'update' || options.lenient ? await documentsAt(rows, place, options.session) : null;
    const waits = await documentsAt(rows, merged.waiting, options.session);
    const documents = rows.map((row) => {
      const key = String(row[ID]);
      // Nothing waits for a document that stands there; what does is from before somebody else made it.
      const found = there?.get(key) ?? waits.get(key);
      return joined({ own: own(row), parts: found === undefined ? none : split(found).parts });
    });
    await replaceWaiting([...waits.values()].map(idOf), [], merged.waiting, options);
    yield { rows, documents };
  }
}

/** Rows of parts: into the documents of the owner that are there; the others wait. */
export async function putParts(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const { parts: names, waiting } = place.merged as MergedPlace;
  if (waiting === null) return putAlone(rows, place, options);
  const split = splitter(names);
  for await (const piece of pieces(rows, place, options)) {
    const there = await documentsAt(piece, place, options.session);
    const ownerless = piece.filter((row) => !there.has(String(row[ID])));
    const waits = await documentsAt(ownerless, waiting, options.session);
    const statements: Buffer[] = [];
    const touched: Raw[] = [];
    const left: Buffer[] = [];
    for (const row of piece) {
      const id = place.shape.id(row) ?? rawNull;
      const standing = there.get(String(row[ID]));
      const before = standing ?? waits.get(String(row[ID])) ?? encode([['_id', id]]);
      const was = split(before);
      const parts = was.parts.map((part, index) => {
        const cell = row[index + 2];
        return UNCHANGED_OR_NONE.includes(cell) ? part : (cell as Buffer | null);
      });
      const after = joined({ own: was.own, parts });
      if (standing !== undefined) {
        if (!after.equals(standing)) statements.push(replaceStatement(idFilter(id), after, false));
        continue;
      }
      touched.push(id);
      if (parts.some((part) => part !== null)) left.push(after);
    }
    await send('update', statements, place, options);
    await replaceWaiting(touched, left, waiting, options);
  }
}

/** Rows of parts of documents that nobody else makes: what they set comes to its place, and all else stays. */
async function putAlone(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const { parts: names } = place.merged as MergedPlace;
  for await (const piece of pieces(rows, place, options)) {
    const there = await documentsAt(piece, place, options.session);
    const made: Buffer[] = [];
    const written: Buffer[] = [];
    const gone: Buffer[] = [];
    for (const row of piece) {
      const id = place.shape.id(row) ?? rawNull;
      const standing = there.get(String(row[ID]));
      const before = standing ?? encode([['_id', id]]);
      const after = names.reduce((document, part, index) => {
        const cell = row[index + 2];
        return UNCHANGED_OR_NONE.includes(cell) ? document : replaced(document, part, cell as Buffer | null);
      }, before);
      if (after.equals(before)) continue;
      if (standing === undefined) made.push(after);
      else if (isBare(after)) gone.push(deleteStatement(idFilter(id)));
      else written.push(replaceStatement(idFilter(id), after, false));
    }
    await send('delete', gone, place, options);
    await send('update', written, place, options);
    await send('insert', made, place, options);
  }
}

/** Rows whose documents may be in memory together. */
function pieces(
  rows: readonly Tuple[],
  place: Place,
  { session, spend }: ApplyOptions,
): AsyncIterable<readonly Tuple[]> | Iterable<readonly Tuple[]> {
  if (spend === undefined) return [rows];
  return piecesOf(rows, (asked) => sizesAt(asked, place, session), spend);
}

/** Bytes of the documents at the keys of rows of a merged collection, or of what waits there for one. */
export async function sizesAt(
  rows: readonly Tuple[],
  place: Place,
  session: ClientSession | null,
): Promise<number[]> {
  const sizes = new Map<Cell, number>();
  for (const one of [place, ...(place.merged?.waiting ? [place.merged.waiting] : [])]) {
    const left = rows.filter((row) => !sizes.has(row[ID] as Cell));
    if (left.length === 0) break;
    const pipeline = [
      { $match: { _id: { $in: idsOf(left, one) } } },
      { $project: { size: { $bsonSize: '$$ROOT' } } },
    ];
    for (const found of await allOf(one, { aggregate: one.collection, pipeline, cursor: {} }, session))
      sizes.set(keyTextOf(idOf(found)), numberOf(fieldOf(found, 'size') ?? rawNull));
  }
  return rows.map((row) => sizes.get(row[ID] as Cell) ?? 0);
}

const idsOf = (rows: readonly Tuple[], { shape }: Place): unknown[] =>
  rows.map((row) => valueOf(shape.id(row) ?? rawNull));

/** By the texts of their keys, exactly: for the server 1 and 1.0 are equal. */
async function documentsAt(
  rows: readonly Tuple[],
  place: Place,
  session: ClientSession,
): Promise<Map<string, Buffer>> {
  if (rows.length === 0) return new Map();
  const wanted = new Set(rows.map((row): Cell => row[ID] as Cell));
  const found = new Map<string, Buffer>();
  for (const document of await readAll(place, { _id: { $in: idsOf(rows, place) } }, session)) {
    const key = keyTextOf(idOf(document));
    if (wanted.has(key)) found.set(key, document);
  }
  return found;
}

async function replaceWaiting(
  ids: readonly Raw[],
  documents: readonly Buffer[],
  waiting: Place,
  options: ApplyOptions,
): Promise<void> {
  await send(
    'delete',
    ids.map((id) => deleteStatement(idFilter(id))),
    waiting,
    options,
  );
  await send('insert', documents, waiting, options);
}
