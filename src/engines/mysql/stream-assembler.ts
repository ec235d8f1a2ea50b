import { BatchBuilder } from '../../core/batch-builder.ts';
import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import { showTable, type Relation, type TableName } from '../../core/table.ts';
import { parseEvent, type BinlogEvent } from './binlog-events.ts';
import { readColumns, readTableHead } from './binlog-table-map.ts';
import type { Charsets } from './charsets.ts';
import { meaningOf } from './ddl.ts';
import { RowDecoder } from './decoder.ts';
import { formatGtids, parseGtids, type GtidSet } from './position.ts';
import { layoutChange, type RelationMap, type ReplicatedTable } from './stream-relations.ts';

export interface AssemblerParts {
  readonly relations: RelationMap;
  readonly charsets: Charsets;
  readonly flavour: 'mysql' | 'mariadb';
  readonly checksums: () => boolean;
  readonly migration: string;
  readonly stateSchema: string;
  /** Everything up to here was applied; transactions are added as they end. */
  readonly position: GtidSet;
  readonly maxBatchBytes: number;
  /** The layout of a table now, or null when it is gone. */
  readonly describe: (table: TableName) => Promise<Relation | null>;
}

/** What a number of a map event stands for. */
type Mapped =
  | { readonly kind: 'rows'; readonly relation: Relation; readonly decoder: RowDecoder }
  | { readonly kind: 'changed'; readonly table: ReplicatedTable; readonly why: string }
  | { readonly kind: 'own'; readonly name: string; readonly relation: Relation; readonly decoder: RowDecoder }
  | { readonly kind: 'other' };

const OTHER: Mapped = { kind: 'other' };

/** Of our state, what says something about the log: marks, the fence's record, and that a transaction is a write of our sink's. */
const OWN_TABLES: ReadonlySet<string> = new Set(['marks', 'fence', 'checkpoint', 'own']);

/** Turns events of the log into batches: transactions, marks, layouts, and statements that say something about a table. */
export class Assembler {
  readonly #parts: AssemblerParts;
  readonly #builder = new BatchBuilder();
  readonly #maps = new Map<number, Mapped>();
  #queue: Buffer[] = [];
  #next = 0;
  #queuedBytes = 0;
  #ready: ChangeBatch[] = [];
  #work: (() => Promise<void>) | null = null;
  #position: Position;
  /** The transaction that is being received, from its GTID on. */
  #gtid: { readonly gtid: string; readonly commitMs: number } | null = null;
  /** How snapshots know it. */
  #id = '';
  /** A write of ours into a sink: nothing of this transaction is a change of the application's. */
  #own = false;
  #file = '';
  #fileBase = 0;
  #endLow = 0;

  constructor(parts: AssemblerParts) {
    this.#parts = parts;
    this.#position = formatGtids(parts.position);
  }

  /** An event with its header. */
  push(raw: Buffer): void {
    this.#queue.push(raw);
    this.#queuedBytes += raw.length;
  }

  /** Bytes that wait to be decoded. */
  get waiting(): number {
    return this.#queuedBytes;
  }

  get queued(): number {
    return this.#queuedBytes + this.#builder.bytes;
  }

  /** Everything up to here was decoded. */
  get position(): Position {
    return this.#position;
  }

  /** Something was received that has not been handed out. */
  get open(): boolean {
    return (
      this.#next < this.#queue.length ||
      this.#gtid !== null ||
      this.#builder.hasWhole ||
      this.#ready.length > 0 ||
      this.#work !== null
    );
  }

  /** The next batch, or null when what was received does not make one. */
  async next(): Promise<ChangeBatch | null> {
    for (;;) {
      const batch = this.#ready.shift() ?? this.#consume();
      if (batch !== null || this.#work === null) return batch;
      const work = this.#work;
      this.#work = null;
      await work();
    }
  }

  #consume(): ChangeBatch | null {
    const builder = this.#builder;
    while (this.#next < this.#queue.length) {
      const raw = this.#queue[this.#next++] as Buffer;
      this.#queuedBytes -= raw.length;
      if (this.#next > 1_000) {
        this.#queue = this.#queue.slice(this.#next);
        this.#next = 0;
      }
      builder.count(raw.length);
      const { event, endLow } = parseEvent(raw, this.#parts.checksums());
      this.#track(endLow);
      if (event !== null) this.#apply(event);
      if (this.#work !== null) return null;
      if (builder.bytes >= this.#parts.maxBatchBytes) {
        const batch = builder.takeWhole() ?? builder.takePart(this.#endOfOpen);
        if (batch !== null) return batch;
      }
    }
    return builder.takeWhole();
  }

  /** Places in a file are sent modulo 2³². */
  #track(endLow: number): void {
    if (endLow === 0) return;
    if (endLow < this.#endLow) this.#fileBase += 2 ** 32;
    this.#endLow = endLow;
  }

  /**
   * By its GTID; on MariaDB by a place in the log behind the beginning of the transaction, which is known from its first part on:
   * snapshots stand between transactions, so one that is behind the beginning is behind the end.
   */
  #idOf(gtid: string): string {
    return this.#parts.flavour === 'mysql' ? gtid : `${this.#file}:${this.#fileBase + this.#endLow}`;
  }

  /** Where the open transaction will end, for its parts. */
  readonly #endOfOpen = (): Position => {
    const end = parseGtids(this.#position);
    if (this.#gtid !== null) end.add(this.#gtid.gtid);
    return formatGtids(end);
  };

  #apply(event: BinlogEvent): void {
    switch (event.kind) {
      case 'rotate':
        if (event.file !== this.#file) {
          this.#file = event.file;
          this.#fileBase = 0;
          this.#endLow = 0;
        }
        return;
      case 'gtid':
        if (this.#builder.inTransaction) throw protocol('a transaction inside a transaction');
        // A group without an end of its own (a statement that changes no row) ends where the next one begins.
        if (this.#gtid !== null) this.#finish();
        this.#gtid = event;
        this.#id = this.#idOf(event.gtid);
        this.#own = false;
        if (this.#parts.flavour === 'mariadb' && !event.standalone) this.#begin();
        return;
      case 'anonymous':
        throw new VerdigrisError('SOURCE_FAILED', 'The source wrote a transaction without a GTID.', {
          remedy: 'Set gtid_mode to ON, then abort and copy again.',
        });
      case 'tableMap':
        return this.#mapped(event.body);
      case 'rows':
        return this.#rows(event);
      case 'xid':
        return this.#commit();
      case 'xaPrepare':
        if (!event.onePhase && this.#builder.hasRows) throw xa();
        return this.#commit();
      case 'query':
        return this.#statement(event.schema, event.sql);
    }
  }

  #begin(): void {
    this.#builder.begin(this.#id, this.#gtid?.commitMs ?? 0);
  }

  #commit(): void {
    if (this.#own) this.#builder.drop();
    this.#finish();
  }

  /** The transaction is complete: its GTID belongs to the position from here on. */
  #finish(): void {
    const { position } = this.#parts;
    if (this.#gtid !== null) {
      position.add(this.#gtid.gtid);
      this.#position = formatGtids(position);
    }
    const end = this.#position;
    this.#builder.commit(() => end);
    this.#gtid = null;
    this.#own = false;
    this.#maps.clear();
  }

  #mapped(body: Parameters<typeof readTableHead>[0]): void {
    const { id, table } = readTableHead(body);
    this.#maps.set(id, this.#mapOf(table, body));
  }

  #mapOf(table: TableName, body: Parameters<typeof readTableHead>[0]): Mapped {
    const { relations, charsets, stateSchema } = this.#parts;
    const known = relations.of(table);
    if (known !== undefined) {
      const decoder = relations.decoder(known, body);
      if (decoder instanceof RowDecoder) return { kind: 'rows', relation: known.relation, decoder };
      return { kind: 'changed', table: known, why: decoder.changed };
    }
    if (table.schema !== stateSchema || !OWN_TABLES.has(table.name)) return OTHER;
    const columns = readColumns(body);
    if (columns === null) throw protocol('a description of our own table without names');
    const relation: Relation = {
      table,
      columns: columns.map(({ name }) => ({
        name,
        type: '',
        kind: 'text',
        nullable: true,
        generated: false,
        hasDefault: false,
        exact: true,
        mayBeUnchanged: false,
      })),
      key: [],
      identity: 'full',
      version: '',
    };
    return { kind: 'own', name: table.name, relation, decoder: new RowDecoder(relation, columns, charsets) };
  }

  #rows(event: Extract<BinlogEvent, { kind: 'rows' }>): void {
    const { body, op } = event;
    const mapped = this.#maps.get(body.u48());
    if (mapped === undefined) throw protocol('rows of a table that it did not describe');
    if (mapped.kind === 'other') return;
    body.skip(2);
    if (event.version2) body.skip(body.u16() - 2);
    if (!this.#builder.inTransaction) throw protocol('rows outside of a transaction');
    if (mapped.kind === 'changed') {
      this.#changed(mapped.table.relation.table, mapped.why, () => Promise.resolve(null));
      return;
    }
    if (mapped.kind === 'own') {
      this.#ours(mapped, event);
      return;
    }
    if (this.#own) return;
    mapped.decoder.rows(body, op, (before, after) => this.#builder.add(mapped.relation, op, before, after));
  }

  /**
   * Marks, and what tells that a transaction is ours. The record of the fence is a mark as well: a drain waits for the barrier, and the next
   * transaction may be long in coming.
   */
  #ours(mapped: Extract<Mapped, { kind: 'own' }>, event: Extract<BinlogEvent, { kind: 'rows' }>): void {
    const index = (name: string): number =>
      mapped.relation.columns.findIndex((column) => column.name === name);
    mapped.decoder.rows(event.body, event.op, (before, after) => {
      const row = after ?? before;
      if (row === null || row[index('id')] !== this.#parts.migration) return;
      if (mapped.name === 'marks') {
        if (after !== null) this.#builder.mark(String(after[index('label')]));
      } else if (mapped.name === 'fence') this.#builder.mark('fence');
      else this.#own = true;
    });
  }

  #statement(schema: string, sql: string): void {
    const { relations, describe } = this.#parts;
    const meaning = meaningOf(sql, schema, relations.tables);
    switch (meaning.kind) {
      case 'begin':
        if (!this.#builder.inTransaction) this.#begin();
        return;
      case 'commit':
        return this.#commit();
      case 'rollback':
        this.#builder.drop();
        return this.#finish();
      case 'xa':
        if (/^\s*XA\s+(START|BEGIN)/i.test(sql)) {
          if (!this.#builder.inTransaction) this.#begin();
        } else if (/^\s*XA\s+(COMMIT|ROLLBACK)/i.test(sql) && !this.#builder.hasRows) this.#finish();
        return;
      case 'none':
        if (!this.#builder.inTransaction) this.#finish();
        return;
      case 'truncate': {
        const table = relations.of(meaning.table);
        const alone = !this.#builder.inTransaction;
        if (alone) this.#begin();
        if (table !== undefined) this.#builder.truncate(table.relation);
        if (alone) this.#finish();
        return;
      }
      case 'statement':
        throw new VerdigrisError(
          'SOURCE_FAILED',
          `The source logged a statement on ${showTable(meaning.table)} instead of the rows that it changed: binlog_format is not ROW, for everybody or for one session.`,
          { remedy: 'Set binlog_format to ROW, for sessions that change it too; then abort and copy again.' },
        );
      case 'change': {
        const table = relations.of(meaning.table) as ReplicatedTable;
        this.#work = async () => {
          const now = await describe(meaning.table);
          if (!meaning.lost && now !== null && now.version === table.relation.version) {
            if (!this.#builder.inTransaction) this.#finish();
            return;
          }
          const why = meaning.lost
            ? 'a statement replaced, renamed or dropped the table, or took rows out of it without row events'
            : layoutChange(table.relation, now);
          this.#changed(meaning.table, why, () => Promise.resolve(meaning.lost ? null : now));
        };
        return;
      }
    }
  }

  /** What came before is handed out first; nothing after it can be. */
  #changed(table: TableName, detail: string, relation: () => Promise<Relation | null>): void {
    this.#work = async () => {
      const whole = this.#builder.takeWhole();
      if (whole !== null) this.#ready.push(whole);
      if (this.#own) this.#builder.drop();
      const part = this.#builder.takePart(this.#endOfOpen);
      if (part !== null) this.#ready.push(part);
      this.#builder.schemaChange({ table, relation: await relation(), detail });
      this.#ready.push(this.#builder.takeSchemaChange());
    };
  }
}

const protocol = (what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);

const xa = (): VerdigrisError =>
  new VerdigrisError(
    'SOURCE_FAILED',
    'An XA transaction was prepared that changes a replicated table: the log brings its rows before it is known whether they stay.',
    {
      remedy:
        'Let no application use XA on these tables while they are replicated; then abort and copy again.',
    },
  );
