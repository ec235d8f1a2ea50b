import { idleBatch, type ChangeBatch, type SourceTransaction } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import { UNCHANGED, tableId, type Relation, type Tuple } from '../../core/table.ts';
import { fieldOf, textOf } from './bson.ts';
import { DocumentDelta } from './document.ts';
import type { ChangeEvent } from './event.ts';
import { keyTextOf } from './key.ts';
import { isOwnSession } from './own-session.ts';
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
  /** Several shards write this log: events of one cluster time may be of several transactions. */
  readonly sharded: boolean;
}

/** Changes of one cluster time that belong together: a multi-document transaction, or the part that one shard has of it. */
interface OpenTransaction {
  /** Null: changes that are each a transaction of its own. */
  readonly transaction: SourceTransaction | null;
  /** Written by our own sink: not to be carried back. */
  readonly own: boolean;
  builder: BatchBuilder;
}

/**
 * Everything of one cluster time. On a replica set that is one transaction, or the documents of one statement (8.1 and later); on a sharded cluster also
 * what other shards have written at the same time, in between.
 */
interface Instant {
  readonly time: ClusterTime;
  readonly open: Map<string, OpenTransaction>;
  /** Parts of it were handed out. */
  inParts: boolean;
  /** Of its last event. */
  token: string;
}

/** Makes batches of whole cluster times out of events, in bounded memory: a position says that everything up to its time was brought. */
export class Assembler {
  readonly #o: AssemblerOptions;
  readonly #ready: ChangeBatch[] = [];
  #builder = new BatchBuilder();
  #instant: Instant | null = null;
  /** Everything up to here has been collected, or dropped; always the end of a cluster time. */
  #place: Place;
  #yielded: ClusterTime;

  constructor(options: AssemblerOptions) {
    this.#o = options;
    this.#place = options.from;
    this.#yielded = options.from.time;
  }

  /** More of the last cluster time may come: only a later token, or the next event, can tell. */
  get uncertain(): boolean {
    return this.#instant !== null;
  }

  take(): ChangeBatch[] {
    return this.#ready.splice(0);
  }

  /** @throws VerdigrisError SOURCE_PROTOCOL */
  add(event: ChangeEvent): void {
    const { time, token } = event;
    if (time <= this.#o.from.time) return;
    if (this.#instant !== null && time !== this.#instant.time) this.#end();
    const instant = (this.#instant ??= { time, open: new Map(), inParts: false, token });
    instant.token = token;
    // On a replica set nothing else has this time: these can go where the others are.
    if (event.transaction === null && !this.#o.sharded) {
      this.#change(event, this.#builder);
      this.#builder.bytes += event.bytes;
      return;
    }
    const open = this.#openOf(instant, event);
    if (open.own) return;
    this.#change(event, open.builder);
    open.builder.bytes += event.bytes;
    // The documents of one statement are one entry of the log, which is small.
    if (open.transaction !== null && open.builder.bytes >= this.#o.maxBatchBytes)
      this.#handOutPart(instant, open);
  }

  /** A reply without events came behind what was added. On a replica set nothing of the last cluster time is left then. */
  drained(token: string): void {
    if (!this.#o.sharded) this.#end();
    this.advance(token);
  }

  /** The token of a reply that is not its last event's: everything before its time has been sent. */
  advance(token: string): void {
    const time = tokenTime(token) - 1n;
    if (this.#instant !== null && this.#instant.time <= time) this.#end();
    if (this.#instant === null && time > this.#place.time) this.#place = { ...this.#place, time, token };
  }

  /** Everything before that time has been added: hands it out, however much of that time itself is still to come. */
  complete(before: ClusterTime): void {
    if (this.#instant !== null && this.#instant.time < before) this.#end();
    this.settle();
  }

  /** Hands out what is complete, or the position alone where there is nothing else. */
  settle(): void {
    // The builder holds changes of the time that is open.
    if (this.#instant !== null && !this.#o.sharded && this.#instant.open.size === 0) return;
    if (!this.#builder.empty) this.#flush();
    else if (this.#place.time > this.#yielded && this.#instant?.inParts !== true) {
      this.#yielded = this.#place.time;
      this.#ready.push(idleBatch(formatPosition(this.#place)));
    }
  }

  #openOf(instant: Instant, event: ChangeEvent): OpenTransaction {
    const id = event.transaction ?? '';
    let open = instant.open.get(id);
    if (open === undefined) {
      const transaction = event.transaction === null ? null : this.#transaction(event);
      open = { transaction, own: this.#isOwn(event), builder: builderOf(transaction) };
      instant.open.set(id, open);
    }
    return open;
  }

  #transaction({ time, committed, wallMs }: ChangeEvent): SourceTransaction {
    const end = formatPosition({ ...this.#o.from, time, token: null });
    return { id: showTime(committed), end, commitMs: wallMs };
  }

  #end(): void {
    const instant = this.#instant;
    if (instant === null) return;
    this.#instant = null;
    this.#place = { ...this.#place, time: instant.time, token: instant.token };
    const others = [...instant.open.values()].filter(({ own }) => !own);
    for (const { builder } of others) this.#builder.append(builder);
    if (instant.inParts || this.#builder.bytes >= this.#o.maxBatchBytes) this.#flush();
  }

  #flush(): void {
    const builder = this.#builder;
    this.#builder = new BatchBuilder();
    this.#yielded = this.#place.time;
    this.#ready.push(builder.finish(formatPosition(this.#place)));
  }

  #handOutPart(instant: Instant, open: OpenTransaction): void {
    // What was committed before goes first, so that the parts are of this cluster time alone.
    if (!instant.inParts && !this.#builder.empty) this.#flush();
    instant.inParts = true;
    this.#ready.push(open.builder.finish(null));
    open.builder = builderOf(open.transaction);
  }

  #change(event: ChangeEvent, builder: BatchBuilder): void {
    const { database, collection } = event;
    if (database === this.#o.stateDatabase) {
      if (collection === 'marks' && event.type === 'insert') this.#mark(event, builder);
      // A mark as well: a drain waits for the barrier, and the next event may be long in coming.
      if (collection === 'fence') builder.mark({ label: 'fence', position: this.#at(event) });
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
    builder.mark({ label: textOf(label), position: this.#at(event) });
  }

  #at({ time, token }: ChangeEvent): Position {
    return formatPosition({ ...this.#o.from, time, token });
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
    // What other shards did at the same time may still come: then only what was before is covered.
    const time = this.#o.sharded ? event.time - 1n : event.time;
    for (const open of this.#instant?.open.values() ?? []) {
      this.#builder.append(open.builder);
      open.builder = builderOf(open.transaction);
    }
    if (!this.#builder.empty) this.#flush();
    for (const { table } of gone) {
      const detail = `the log has ${event.type} at ${showTime(event.time)}`;
      this.#builder.schemaChange({ table, relation: null, detail });
    }
    this.#place = { ...this.#place, time, token: event.token };
    this.#flush();
  }

  #isOwn({ transaction, session }: ChangeEvent): boolean {
    return transaction !== null && session !== null && isOwnSession(session, this.#o.migration);
  }
}

function builderOf(transaction: SourceTransaction | null): BatchBuilder {
  const builder = new BatchBuilder();
  if (transaction !== null) builder.begin(transaction);
  return builder;
}

const lacking = (event: ChangeEvent, what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The server sent an event of type ${event.type} without ${what}.`, {
    context: { time: showTime(event.time) },
  });
