import type { ClientSession } from 'mongodb';
import { UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import { encode, rawNull, type Raw } from './bson.ts';
import { ID } from './document.ts';
import { idFilter, keyTextOf } from './key.ts';
import { joined, splitter } from './merged.ts';
import { idOf } from './sink-packed.ts';
import { readAll, send, type ApplyOptions, type MergedPlace, type Place } from './sink-write.ts';
import { deleteStatement, replaceStatement } from './update.ts';
import { valueOf } from './value.ts';

/** Documents that are read and written anew at a time: each may be large. */
const PIECE = 500;

const UNCHANGED_OR_NONE: readonly unknown[] = [UNCHANGED, undefined];

/** Rows of the owner leave: what the parts set stays behind, waiting. Does nothing where nothing is merged. */
export async function keepParts(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const { merged } = place;
  if (merged === null) return;
  const split = splitter(merged.parts);
  for (const piece of pieces(rows)) {
    const found = await documentsAt(piece, place, options.session);
    const left = new Map<string, Buffer>();
    for (const [key, document] of found) {
      const { parts } = split(document);
      if (parts.some((part) => part !== null))
        left.set(key, joined({ own: encode([['_id', idOf(document)]]), parts }));
    }
    await replaceWaiting([...found.values()].map(idOf), [...left.values()], merged, options);
  }
}

/**
 * Documents of the owner as they come onto the sink, with what the parts have set: what waits there, and, where they are there already, what
 * stands in them.
 */
export async function withParts(
  rows: readonly Tuple[],
  own: readonly Buffer[],
  place: Place,
  options: ApplyOptions,
  kind: 'insert' | 'update' = 'insert',
): Promise<readonly Buffer[]> {
  const { merged } = place;
  if (merged === null) return own;
  const split = splitter(merged.parts);
  const none = merged.parts.map(() => null);
  const partsIn = (document: Buffer | undefined): readonly (Buffer | null)[] =>
    document === undefined ? none : split(document).parts;
  const whole: Buffer[] = [];
  for (const piece of pieces(rows)) {
    const there =
      kind === 'update' || options.lenient ? await documentsAt(piece, place, options.session) : null;
    const waits = await documentsAt(piece, merged.waiting, options.session);
    for (const row of piece) {
      const key = String(row[ID]);
      const standing = partsIn(there?.get(key));
      const waiting = partsIn(waits.get(key));
      const parts = waiting.map((part, index) => part ?? standing[index] ?? null);
      whole.push(joined({ own: own[whole.length] as Buffer, parts }));
    }
    await replaceWaiting([...waits.values()].map(idOf), [], merged, options);
  }
  return whole;
}

/** Rows of parts: into the documents of the owner that are there; the others wait. */
export async function putParts(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const merged = place.merged as MergedPlace;
  const split = splitter(merged.parts);
  for (const piece of pieces(rows)) {
    const there = await documentsAt(piece, place, options.session);
    const waits = await documentsAt(piece, merged.waiting, options.session);
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
    await replaceWaiting(touched, left, merged, options);
  }
}

function* pieces(rows: readonly Tuple[]): Generator<readonly Tuple[]> {
  for (let at = 0; at < rows.length; at += PIECE) yield rows.slice(at, at + PIECE);
}

/** By the texts of their keys, exactly: for the server 1 and 1.0 are equal. */
async function documentsAt(
  rows: readonly Tuple[],
  place: Place,
  session: ClientSession,
): Promise<Map<string, Buffer>> {
  const ids = rows.map((row) => valueOf(place.shape.id(row) ?? rawNull));
  const wanted = new Set(rows.map((row): Cell => row[ID] as Cell));
  const found = new Map<string, Buffer>();
  for (const document of await readAll(place, { _id: { $in: ids } }, session)) {
    const key = keyTextOf(idOf(document));
    if (wanted.has(key)) found.set(key, document);
  }
  return found;
}

async function replaceWaiting(
  ids: readonly Raw[],
  documents: readonly Buffer[],
  { waiting }: MergedPlace,
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
