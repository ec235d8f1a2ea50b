import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import {
  UNCHANGED,
  showTable,
  tableId,
  type Cell,
  type Relation,
  type TableName,
  type Tuple,
} from '../../core/table.ts';
import { asBuffer, fieldOf, rawNull, type Raw } from './bson.ts';
import { DOCUMENT, DocumentDelta, ID, isAlone, partsOf } from './document.ts';
import { idFilter } from './key.ts';
import { shapeOf } from './shape.ts';
import type { Sizes } from './sink-cut.ts';
import { keepParts, putParts, sizesAt, withParts } from './sink-merge.ts';
import { expect, readAll, send, type ApplyOptions, type Place } from './sink-write.ts';
import { valueOf } from './value.ts';
import { deleteManyStatement, deleteStatement, patchStatement, replaceStatement } from './update.ts';

/** Applies folded runs in one transaction, strictly. @throws VerdigrisError SINK_CONFLICT; UniqueClash; KeyTaken */
export async function applyRuns(runs: readonly RowRun[], options: ApplyOptions): Promise<void> {
  const exact = new Map<string, RowRun[]>();
  for (const run of runs) {
    const { table } = run.relation;
    if (options.exact.has(tableId(table))) {
      const list = exact.get(tableId(table));
      if (list === undefined) exact.set(tableId(table), [run]);
      else list.push(run);
      continue;
    }
    await applyRun(run, placeOf(run.relation, options), options);
  }
  for (const list of exact.values()) await applyExactly(list, options);
}

/** How much stands on the sink where rows are written as wholes with what stands there; of others nothing is read. */
export const sizesOn =
  (options: Pick<ApplyOptions, 'client' | 'waiting'>): Sizes =>
  async (run, rows) => {
    const place = placeOf(run.relation, options);
    return place.merged === null ? [] : sizesAt(rows, place, null);
  };

function placeOf(relation: Relation, { client, waiting }: Pick<ApplyOptions, 'client' | 'waiting'>): Place {
  const { table } = relation;
  const shape = shapeOf(relation);
  const plain = { db: client.db(table.schema), collection: table.name, table, shape, merged: null };
  const parts = partsOf(relation);
  if (parts.length === 0) return plain;
  if (isAlone(relation)) return { ...plain, merged: { parts, waiting: null } };
  const { db, name } = waiting(table);
  return { ...plain, merged: { parts, waiting: { ...plain, db, collection: name } } };
}

async function applyRun(run: RowRun, place: Place, options: ApplyOptions): Promise<void> {
  switch (run.op) {
    case 'delete':
      return remove(run.before as readonly Tuple[], place, options, !options.lenient);
    case 'replace':
      await remove(run.before as readonly Tuple[], place, options, false);
      return insert(run.after, place, options);
    case 'update': {
      const moved = run.after.map((row, index) => {
        const old = run.before[index] ?? null;
        return old !== null && old[ID] !== UNCHANGED && old[ID] !== row[ID];
      });
      // A key cannot change in place here: all leave their old ones, then all come to their new ones.
      const left = run.before.filter((_, index) => moved[index]) as readonly Tuple[];
      await remove(left, place, options, !options.lenient);
      await update(
        run.after.filter((_, index) => !moved[index]),
        place,
        options,
      );
      return insert(
        run.after.filter((_, index) => moved[index]),
        place,
        options,
      );
    }
    case 'insert':
      return insert(run.after, place, options);
    case 'truncate':
      await place.db.collection(place.collection).deleteMany({}, { session: options.session });
      return;
    case 'put':
      return putParts(run.after, place, options);
  }
}

async function remove(
  rows: readonly Tuple[],
  place: Place,
  options: ApplyOptions,
  strict: boolean,
): Promise<void> {
  await keepParts(rows, place, options);
  const statements = rows.map((row) => {
    const id = place.shape.id(row);
    return id === null
      ? deleteManyStatement(place.shape.family(row[ID] as Cell))
      : deleteStatement(idFilter(id));
  });
  const written = await send('delete', statements, place, options);
  if (strict) expect(written.n, statements.length, 'delete', place.table);
}

async function insert(all: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const own = (row: Tuple): Buffer => baseOf(row[place.shape.document] as Cell, place.table);
  for await (const { rows, documents } of withParts(all, own, place, options)) {
    if (options.lenient) await replace(rows, documents, place, options);
    else {
      const written = await send('insert', documents, place, options);
      expect(written.n, documents.length, 'insert', place.table);
    }
  }
  const patched = all.filter((row) => row[DOCUMENT] instanceof DocumentDelta);
  if (patched.length > 0) await patch(patched, place, options);
}

async function replace(
  rows: readonly Tuple[],
  documents: readonly Buffer[],
  place: Place,
  options: ApplyOptions,
): Promise<void> {
  const statements = rows.map((row, index) =>
    replaceStatement(filterOf(row, place), documents[index] as Buffer, options.lenient),
  );
  const written = await send('update', statements, place, options);
  if (!options.lenient) expect(written.n, statements.length, 'update', place.table);
}

async function update(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  if (place.merged !== null) return updateOwner(rows, place, options);
  const statements = rows.map((row) => {
    const cell = row[DOCUMENT] as Cell;
    return cell instanceof DocumentDelta && cell.base === null
      ? patchStatement(filterOf(row, place), cell.diffs, options)
      : replaceStatement(filterOf(row, place), baseOf(cell, place.table), options.lenient);
  });
  const written = await send('update', statements, place, options);
  if (!options.lenient) expect(written.n, statements.length, 'update', place.table);
  // Replaced and then changed in the same group.
  const patched = rows.filter(({ [DOCUMENT]: cell }) => cell instanceof DocumentDelta && cell.base !== null);
  if (patched.length > 0) await patch(patched, place, options);
}

/** The document of an owner as a whole (a merge is read by images); what the parts set stays in it. */
async function updateOwner(all: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const own = (row: Tuple): Buffer => baseOf(row[DOCUMENT] as Cell, place.table);
  for await (const { rows, documents } of withParts(all, own, place, options, 'update'))
    await replace(rows, documents, place, options);
}

async function patch(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const statements = rows.map((row) =>
    patchStatement(filterOf(row, place), (row[DOCUMENT] as DocumentDelta).diffs, options),
  );
  const written = await send('update', statements, place, options);
  if (!options.lenient) expect(written.n, statements.length, 'update', place.table);
}

/**
 * The touched documents are put together in a collection without indexes, taken off the table, and put back as they are in the end: in any
 * order that the final state allows.
 */
async function applyExactly(runs: readonly RowRun[], options: ApplyOptions): Promise<void> {
  const { session, shadow } = options;
  const real = placeOf((runs[0] as RowRun).relation, options);
  const draft: Place = { ...real, db: shadow.db, collection: shadow.name };
  const touched = new Map<string, Raw>();
  const families: object[] = [];
  for (const run of runs) {
    for (const row of [...run.after, ...run.before]) {
      const id = row === null ? null : real.shape.id(row);
      if (id !== null) touched.set(id.bytes.toString('latin1') + String(id.type), id);
      else if (row !== null) families.push(real.shape.family(row[ID] as Cell));
    }
  }
  const listed = { _id: { $in: [...touched.values()].map(valueOf) } };
  const before = await readAll(real, { $or: [listed, ...families] }, session);
  const ids = before.map((document) => fieldOf(document, '_id') ?? rawNull);
  await send('insert', before, draft, options);
  for (const run of runs) await applyRun(run, draft, options);
  await send(
    'delete',
    ids.map((id) => deleteStatement(idFilter(id))),
    real,
    options,
  );
  await send('insert', await readAll(draft, {}, session), real, options);
  await shadow.db.collection(shadow.name).deleteMany({}, { session });
}

function filterOf(row: Tuple, { shape, table }: Place): Raw {
  const id = shape.id(row);
  if (id !== null) return idFilter(id);
  throw new VerdigrisError('INTERNAL', `A row of ${showTable(table)} came without the whole of its key.`);
}

/** The document, before the updates that follow it. */
function baseOf(cell: Cell, table: TableName): Buffer {
  const whole = cell instanceof DocumentDelta ? cell.base : cell;
  if (!(whole instanceof Uint8Array))
    throw new VerdigrisError('INTERNAL', `A document of ${showTable(table)} came without its content.`);
  return asBuffer(whole);
}
