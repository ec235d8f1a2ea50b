import { idleBatch, type ChangeBatch, type SourceTransaction } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { UNCHANGED, tableId, type Relation, type Tuple } from '../../core/table.ts';
import { fieldOf, textOf } from './bson.ts';
import { DocumentDelta } from './document.ts';
import type { ChangeEvent } from './event.ts';
import { keyTextOf } from './key.ts';
import { formatPosition, showTime, tokenTime, type ClusterTime, type Place } from './position.ts';
import { BatchBuilder } from './stream-batch.ts';
import { diffOf } from './update.ts';

export interface AssemblerOptions {
  readonly relations: ReadonlyMap<string, Relation>;
  readonly stateDatabase: string;
  readonly migration: string;
  readonly from: Place;
  /** Bytes past which a transaction is handed out in parts. */
  readonly maxBatchBytes: number;
}

/** A multi-document transaction of which more events may come. */
interface OpenTransaction {
  readonly id: string;
  readonly time: ClusterTime;
  readonly wallMs: number;
  /** Written by our own sink: not to be carried back. */
  readonly own: boolean;
  builder: BatchBuilder;
  /** Parts of it were handed out. */
  inParts: boolean;
  /** Of its last event. */
  token: string;
}

/** Makes batches of whole transactions out of events, in bounded memory. */
export class Assembler {
  readonly #o: AssemblerOptions;
  readonly #ready: ChangeBatch[] = [];
  #builder = new BatchBuilder();
  #open: OpenTransaction | null = null;
  /** Everything up to here has been collected, or dropped; never inside a transaction. */
  #place: Place;
  #yielded: ClusterTime;

  constructor(options: AssemblerOptions) {
    this.#o = options;
    this.#place = options.from;
    this.#yielded = options.from.time;
  }

  /** A transaction is open that may have ended: only a reply without events, or the next event, can tell. */
  get uncertain(): boolean {
    return this.#open !== null;
  }

  take(): ChangeBatch[] {
    return this.#ready.splice(0);
  }

  /** @throws VerdigrisError SOURCE_PROTOCOL */
  add(event: ChangeEvent): void {
    if (event.time <= this.#o.from.time) return;
    const { time, token, wallMs } = event;
    if (this.#open !== null && (event.transaction !== this.#open.id || time !== this.#open.time)) this.#end();
    if (event.transaction === null) {
      this.#change(event, this.#builder);
      this.#place = { ...this.#place, time, token };
      this.#builder.bytes += event.bytes;
      if (this.#builder.bytes >= this.#o.maxBatchBytes) this.#flush();
      return;
    }
    if (this.#open === null) {
      const own = this.#isOwn(event);
      const builder = new BatchBuilder();
      if (!own) builder.begin(this.#transaction(event));
      this.#open = { id: event.transaction, time, wallMs, own, builder, inParts: false, token };
    }
    const open = this.#open;
    open.token = token;
    if (open.own) return;
    this.#change(event, open.builder);
    open.builder.bytes += event.bytes;
    if (open.builder.bytes >= this.#o.maxBatchBytes) this.#handOutPart(open);
  }

  /** A reply without events came behind what was added: an open transaction has ended, and everything up to the token is known. */
  drained(token: string): void {
    if (this.#open !== null) this.#end();
    this.advance(token);
  }

  /** The token of a reply that is not its last event's: everything before its time has been sent. */
  advance(token: string): void {
    const time = tokenTime(token) - 1n;
    if (this.#open === null && time > this.#place.time) this.#place = { ...this.#place, time, token };
  }

  /** Hands out what is complete, or the position alone where there is nothing else. */
  settle(): void {
    if (!this.#builder.empty) this.#flush();
    else if (this.#place.time > this.#yielded && this.#open?.inParts !== true) {
      this.#yielded = this.#place.time;
      this.#ready.push(idleBatch(formatPosition(this.#place)));
    }
  }

  #transaction({ time, wallMs }: Pick<ChangeEvent, 'time' | 'wallMs'>): SourceTransaction {
    const end = formatPosition({ ...this.#o.from, time, token: null });
    return { id: showTime(time), end, commitMs: wallMs };
  }

  #end(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    this.#place = { ...this.#place, time: open.time, token: open.token };
    if (open.own) return;
    if (open.inParts) {
      this.#yielded = this.#place.time;
      this.#ready.push(open.builder.finish(formatPosition(this.#place)));
      return;
    }
    this.#builder.append(open.builder);
    if (this.#builder.bytes >= this.#o.maxBatchBytes) this.#flush();
  }

  #flush(): void {
    const builder = this.#builder;
    this.#builder = new BatchBuilder();
    this.#yielded = this.#place.time;
    this.#ready.push(builder.finish(formatPosition(this.#place)));
  }

  #handOutPart(open: OpenTransaction): void {
    // What was committed before goes first, so that the parts are of this transaction alone.
    if (!open.inParts && !this.#builder.empty) this.#flush();
    open.inParts = true;
    this.#ready.push(open.builder.finish(null));
    open.builder = new BatchBuilder();
    open.builder.begin(this.#transaction(open));
  }

  #change(event: ChangeEvent, builder: BatchBuilder): void {
    const { database, collection } = event;
    if (database === this.#o.stateDatabase) {
      if (collection === 'marks' && event.type === 'insert') this.#mark(event, builder);
      return;
    }
    const relation = this.#o.relations.get(tableId({ schema: database, name: collection }));
    switch (event.type) {
      case 'insert':
      case 'update':
      case 'replace':
      case 'delete':
        if (relation !== undefined) this.#row(event, relation, builder);
        return;
      case 'drop':
      case 'rename':
      case 'dropDatabase':
      case 'create':
      case 'shardCollection':
      case 'reshardCollection':
      case 'refineCollectionShardKey':
        this.#layout(event);
        return;
      case 'createIndexes':
      case 'dropIndexes':
      case 'modify':
      case 'startIndexBuild':
      case 'abortIndexBuild':
        // Indexes, validation and expiry of blue say nothing about its documents; green has its own.
        return;
      default:
        throw new VerdigrisError(
          'SOURCE_PROTOCOL',
          `The server sent a change event of the unknown type ${event.type}.`,
          {
            context: { time: showTime(event.time) },
          },
        );
    }
  }

  #row(event: ChangeEvent, relation: Relation, builder: BatchBuilder): void {
    if (event.id === null) throw lacking(event, 'its key');
    if (event.transaction === null) builder.begin(this.#transaction(event));
    const key = keyTextOf(event.id);
    const before: Tuple | null = event.before === null ? null : [key, Buffer.from(event.before)];
    switch (event.type) {
      case 'delete':
        builder.row(relation, 'delete', null, before ?? [key, UNCHANGED]);
        return;
      case 'update':
        if (event.document !== null && before !== null) {
          builder.row(relation, 'update', [key, Buffer.from(event.document)], before);
          return;
        }
        if (event.update === null) throw lacking(event, 'its description');
        builder.row(
          relation,
          'update',
          [key, new DocumentDelta(null, [Buffer.from(diffOf(event.update))])],
          null,
        );
        return;
      default: {
        if (event.document === null) throw lacking(event, 'its document');
        const row: Tuple = [key, Buffer.from(event.document)];
        if (event.type === 'insert') builder.row(relation, 'insert', row, null);
        else builder.row(relation, 'update', row, before);
      }
    }
  }

  #mark(event: ChangeEvent, builder: BatchBuilder): void {
    const document = event.document;
    const migration = document === null ? null : fieldOf(document, 'migration');
    const label = document === null ? null : fieldOf(document, 'label');
    if (migration === null || label === null || textOf(migration) !== this.#o.migration) return;
    const position = formatPosition({ ...this.#o.from, time: event.time, token: event.token });
    builder.mark({ label: textOf(label), position });
  }

  /** A mapped collection is not what it was: what was collected goes first, then the change alone. */
  #layout(event: ChangeEvent): void {
    const gone = [...this.#o.relations.values()].filter(({ table }) =>
      event.type === 'dropDatabase'
        ? table.schema === event.database
        : (table.schema === event.database && table.name === event.collection) ||
          (event.to !== null && table.schema === event.to.database && table.name === event.to.collection),
    );
    if (gone.length === 0) return;
    if (!this.#builder.empty) this.#flush();
    for (const { table } of gone) {
      const detail = `the log has ${event.type} at ${showTime(event.time)}`;
      this.#builder.schemaChange({ table, relation: null, detail });
    }
    this.#place = { ...this.#place, time: event.time, token: event.token };
    this.#flush();
  }

  /** Our sink's transactions begin with its checkpoint, or with the range that is copied. */
  #isOwn({ database, collection, id }: ChangeEvent): boolean {
    if (database !== this.#o.stateDatabase || id === null) return false;
    const key = keyTextOf(id);
    if (collection === 'checkpoint')
      return key.startsWith(JSON.stringify(`${this.#o.migration}/`).slice(0, -1));
    if (collection !== 'ranges') return false;
    const range = JSON.parse(JSON.parse(key) as string) as readonly unknown[];
    return String(range[0]).startsWith(`${this.#o.migration}/`);
  }
}

const lacking = (event: ChangeEvent, what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The server sent an event of type ${event.type} without ${what}.`, {
    context: { time: showTime(event.time) },
  });
