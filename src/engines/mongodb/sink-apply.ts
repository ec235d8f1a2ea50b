import type { ClientSession, Db, MongoClient } from 'mongodb';
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
import { DOCUMENT, DocumentDelta, ID } from './document.ts';
import { SERVER_CODE } from './errors.ts';
import { idFilter } from './key.ts';
import { shapeOf, type Shape } from './shape.ts';
import { valueOf } from './value.ts';
import { deleteManyStatement, deleteStatement, patchStatement, replaceStatement } from './update.ts';
import { documentsOf, rawCursor, write, type Written } from './wire.ts';

export interface ApplyOptions {
  readonly client: MongoClient;
  readonly session: ClientSession;
  /** Changes may have been applied before: what is there already counts as done. */
  readonly lenient: boolean;
  readonly keepTimestamps: boolean;
  /** Tables (by `tableId`) whose unique indexes refuse an order that their final documents would not be refused in. */
  readonly exact: ReadonlySet<string>;
  /** Where documents of such tables are put together: a collection of ours without indexes, empty. */
  readonly shadow: { readonly db: Db; readonly name: string };
}

/** A unique index of a table refused a document; the transaction is gone. */
export class UniqueClash extends Error {
  readonly table: TableName;
  readonly conflict: VerdigrisError;

  constructor(table: TableName) {
    super('unique index');
    this.table = table;
    this.conflict = new VerdigrisError(
      'SINK_CONFLICT',
      `A unique index of ${showTable(table)} refuses a document, whatever the order.`,
      { context: { table: showTable(table) } },
    );
  }
}

/** An `_id` that a document is to come to belongs to another one; the transaction is gone. */
export class KeyTaken extends Error {
  readonly table: TableName;
  readonly id: Raw;
  readonly conflict: VerdigrisError;

  constructor(table: TableName, id: Raw, context: Readonly<Record<string, unknown>>) {
    super('_id');
    this.table = table;
    this.id = id;
    this.conflict = new VerdigrisError(
      'SINK_CONFLICT',
      `A document of ${showTable(table)} is there already.`,
      { context },
    );
  }
}

interface Place {
  readonly db: Db;
  readonly collection: string;
  readonly table: TableName;
  readonly shape: Shape;
}

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

const placeOf = (relation: Relation, { client }: ApplyOptions): Place => {
  const { table } = relation;
  return { db: client.db(table.schema), collection: table.name, table, shape: shapeOf(relation) };
};

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
      throw new VerdigrisError('INTERNAL', `A plan sent ${run.op} for ${showTable(place.table)}.`);
  }
}

async function remove(
  rows: readonly Tuple[],
  place: Place,
  options: ApplyOptions,
  strict: boolean,
): Promise<void> {
  const statements = rows.map((row) => {
    const id = place.shape.id(row);
    return id === null
      ? deleteManyStatement(place.shape.family(row[ID] as Cell))
      : deleteStatement(idFilter(id));
  });
  const written = await send('delete', statements, place, options);
  if (strict) expect(written.n, statements.length, 'delete', place.table);
}

async function insert(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
  const whole = rows.map((row) => baseOf(row[place.shape.document] as Cell, place.table));
  if (options.lenient) {
    const statements = rows.map((row, index) =>
      replaceStatement(filterOf(row, place), whole[index] as Buffer, true),
    );
    await send('update', statements, place, options);
  } else {
    const written = await send('insert', whole, place, options);
    expect(written.n, whole.length, 'insert', place.table);
  }
  const patched = rows.filter((row) => row[DOCUMENT] instanceof DocumentDelta);
  if (patched.length > 0) await patch(patched, place, options);
}

async function update(rows: readonly Tuple[], place: Place, options: ApplyOptions): Promise<void> {
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

async function readAll(place: Place, filter: object, session: ClientSession): Promise<Buffer[]> {
  const found: Buffer[] = [];
  let reply = await rawCursor(place.db, { find: place.collection, filter }, { session });
  for (;;) {
    for (const document of documentsOf(reply.batch)) found.push(Buffer.from(document));
    if (reply.id === 0n) return found;
    reply = await rawCursor(place.db, { getMore: reply.id, collection: place.collection }, { session });
  }
}

async function send(
  kind: 'insert' | 'update' | 'delete',
  statements: readonly Buffer[],
  { db, collection, table }: Place,
  { session, keepTimestamps }: ApplyOptions,
): Promise<Written> {
  if (statements.length === 0) return { n: 0, error: null };
  const written = await write(db, { kind, collection, statements, keepTimestamps }, session);
  if (written.error === null) return written;
  const { code, index: ofStatement, keys } = written.error;
  if (code === SERVER_CODE.duplicateKey && !(keys.length === 1 && keys[0] === '_id'))
    throw new UniqueClash(table);
  const context = { table: showTable(table), serverCode: code, statement: ofStatement };
  if (code === SERVER_CODE.duplicateKey) throw new KeyTaken(table, idIn(statements, ofStatement), context);
  if (code === SERVER_CODE.writeConflict)
    throw new VerdigrisError('SINK_TRANSIENT', 'Another transaction wrote the same document.', { context });
  if (code === SERVER_CODE.transactionTooLargeForCache)
    throw new VerdigrisError('SINK_TRANSIENT', 'A transaction does not fit into the cache of the sink.', {
      context,
    });
  const refused = code === SERVER_CODE.documentValidation ? 'its validation' : `code ${code}`;
  throw new VerdigrisError('SINK_CONFLICT', `${showTable(table)} refuses a document (${refused}).`, {
    context,
  });
}

/** Of an insert; an update that makes a document names it by `q`. */
function idIn(statements: readonly Buffer[], index: number): Raw {
  const statement = statements[index] as Buffer;
  const asked = fieldOf(statement, 'q');
  return (asked === null ? fieldOf(statement, '_id') : null) ?? rawNull;
}

function expect(found: number, wanted: number, kind: string, table: TableName): void {
  if (found === wanted) return;
  throw new VerdigrisError(
    'SINK_CONFLICT',
    `${wanted - found} of ${wanted} documents of ${showTable(table)} were not there for the ${kind}.`,
    { context: { table: showTable(table), expected: wanted, found } },
  );
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
