import { VerdigrisError } from '../../core/errors.ts';
import { TYPE, fieldMap, fieldOf, numberOf, textOf, type Field } from './bson.ts';
import { type ClusterTime } from './position.ts';

/** One change event, its documents as they came. Views of the reply: what is kept is copied. */
export interface ChangeEvent {
  readonly token: string;
  readonly type: string;
  readonly time: ClusterTime;
  /**
   * From which time on snapshots see it. Of a transaction over several shards that is one time for all of them, and `time` is where each shard wrote down that
   * it was committed, which is later and of each another.
   */
  readonly committed: ClusterTime;
  /** Wall clock of the primary, ms. */
  readonly wallMs: number;
  readonly database: string;
  readonly collection: string;
  readonly id: Field | null;
  /** After the change: of inserts and replacements, and of updates where the collection keeps images. */
  readonly document: Buffer | null;
  /** Before the change, where the collection keeps images. */
  readonly before: Buffer | null;
  /** The raw update description. */
  readonly update: Buffer | null;
  /** Of a multi-document transaction: session and number; null for everything else. */
  readonly transaction: string | null;
  /** The 16 bytes of that session's id. */
  readonly session: Buffer | null;
  readonly to: { readonly database: string; readonly collection: string } | null;
  readonly bytes: number;
}

const protocol = (what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The server sent a change event without ${what}.`);

/** Puts the parts of split events together and reads what is needed of each. */
export class EventReader {
  /** Fragments of an event that is not whole yet. */
  #parts: Map<string, Field> | null = null;
  #bytes = 0;

  /** Parts of an event were read, and not its last. */
  get partial(): boolean {
    return this.#parts !== null;
  }

  /** Null: the event goes on in the next document. @throws VerdigrisError SOURCE_PROTOCOL */
  read(document: Buffer): ChangeEvent | null {
    let parts = fieldMap(document);
    const split = parts.get('splitEvent');
    this.#bytes += document.length;
    if (split !== undefined) {
      const fragment = fieldOf(split.bytes, 'fragment');
      const of = fieldOf(split.bytes, 'of');
      if (fragment === null || of === null) throw protocol('its number of parts');
      const known: Map<string, Field> = numberOf(fragment) === 1 ? new Map() : (this.#parts ?? new Map());
      // The reply they are views of is gone by the time the last one is there.
      for (const [name, field] of parts) known.set(name, { ...field, bytes: Buffer.from(field.bytes) });
      this.#parts = known;
      if (numberOf(fragment) < numberOf(of)) return null;
      parts = known;
    }
    this.#parts = null;
    const bytes = this.#bytes;
    this.#bytes = 0;
    return eventOf(parts, bytes);
  }
}

function eventOf(parts: ReadonlyMap<string, Field>, bytes: number): ChangeEvent {
  const resume = parts.get('_id');
  const data = resume === undefined ? null : fieldOf(resume.bytes, '_data');
  const type = parts.get('operationType');
  const time = parts.get('clusterTime');
  if (data === null || type === undefined || time === undefined) throw protocol('its token, type or time');
  const wall = parts.get('wallTime');
  const ns = parts.get('ns');
  const key = parts.get('documentKey');
  const to = parts.get('to');
  return {
    token: textOf(data),
    type: textOf(type),
    time: time.bytes.readBigUInt64LE(),
    committed: (parts.get('commitTimestamp') ?? time).bytes.readBigUInt64LE(),
    // Servers before 6.0 have no wall time; the cluster time is the second.
    wallMs: wall === undefined ? time.bytes.readUInt32LE(4) * 1_000 : Number(wall.bytes.readBigInt64LE()),
    database: textIn(ns, 'db'),
    collection: textIn(ns, 'coll'),
    id: key === undefined ? null : fieldOf(key.bytes, '_id'),
    document: documentIn(parts.get('fullDocument')),
    before: documentIn(parts.get('fullDocumentBeforeChange')),
    update: documentIn(parts.get('rawUpdateDescription')),
    transaction: transactionOf(parts.get('lsid'), parts.get('txnNumber')),
    session: sessionOf(parts.get('lsid')),
    to: to === undefined ? null : { database: textIn(to, 'db'), collection: textIn(to, 'coll') },
    bytes,
  };
}

const documentIn = (field: Field | undefined): Buffer | null =>
  field === undefined || field.type !== TYPE.document ? null : field.bytes;

function textIn(field: Field | undefined, name: string): string {
  const inner = field === undefined ? null : fieldOf(field.bytes, name);
  return inner === null || inner.type !== TYPE.string ? '' : textOf(inner);
}

const transactionOf = (session: Field | undefined, number: Field | undefined): string | null =>
  session === undefined || number === undefined
    ? null
    : `${session.bytes.toString('hex')}:${number.bytes.toString('hex')}`;

/** Of a binary: its length, its subtype, then the bytes. */
function sessionOf(session: Field | undefined): Buffer | null {
  const id = session === undefined ? null : fieldOf(session.bytes, 'id');
  return id === null ? null : id.bytes.subarray(5);
}
