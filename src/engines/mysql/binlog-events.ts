import { crc32 } from 'node:zlib';
import { VerdigrisError } from '../../core/errors.ts';
import { Bytes } from './binlog-bytes.ts';

/** Numbers of events, by the name in the server's sources (libs/mysql/binlog/event/binlog_event.h, MariaDB sql/log_event.h). */
export const EVENT = {
  QUERY: 2,
  STOP: 3,
  ROTATE: 4,
  INTVAR: 5,
  RAND: 13,
  USER_VAR: 14,
  FORMAT_DESCRIPTION: 15,
  XID: 16,
  TABLE_MAP: 19,
  WRITE_ROWS_V1: 23,
  UPDATE_ROWS_V1: 24,
  DELETE_ROWS_V1: 25,
  INCIDENT: 26,
  HEARTBEAT: 27,
  IGNORABLE: 28,
  ROWS_QUERY: 29,
  WRITE_ROWS: 30,
  UPDATE_ROWS: 31,
  DELETE_ROWS: 32,
  GTID: 33,
  ANONYMOUS_GTID: 34,
  PREVIOUS_GTIDS: 35,
  TRANSACTION_CONTEXT: 36,
  VIEW_CHANGE: 37,
  XA_PREPARE: 38,
  PARTIAL_UPDATE_ROWS: 39,
  TRANSACTION_PAYLOAD: 40,
  HEARTBEAT_V2: 41,
  GTID_TAGGED: 42,
  MARIADB_ANNOTATE_ROWS: 160,
  MARIADB_BINLOG_CHECKPOINT: 161,
  MARIADB_GTID: 162,
  MARIADB_GTID_LIST: 163,
  MARIADB_START_ENCRYPTION: 164,
} as const;

/** What may pass unread: it says nothing about rows. */
const SILENT: ReadonlySet<number> = new Set([
  EVENT.STOP,
  EVENT.INTVAR,
  EVENT.RAND,
  EVENT.USER_VAR,
  EVENT.FORMAT_DESCRIPTION,
  EVENT.HEARTBEAT,
  EVENT.HEARTBEAT_V2,
  EVENT.IGNORABLE,
  EVENT.ROWS_QUERY,
  EVENT.PREVIOUS_GTIDS,
  EVENT.TRANSACTION_CONTEXT,
  EVENT.VIEW_CHANGE,
  EVENT.MARIADB_ANNOTATE_ROWS,
  EVENT.MARIADB_BINLOG_CHECKPOINT,
  EVENT.MARIADB_GTID_LIST,
  EVENT.MARIADB_START_ENCRYPTION,
]);

/** Events that hold rows which cannot be read, and what turns them off. */
const UNREADABLE: Readonly<Record<number, string>> = {
  [EVENT.PARTIAL_UPDATE_ROWS]: 'partial updates of JSON (set binlog_row_value_options to the empty string)',
  [EVENT.TRANSACTION_PAYLOAD]: 'a compressed transaction (set binlog_transaction_compression to OFF)',
  [EVENT.INCIDENT]: 'an incident: its log has a gap',
  165: 'a compressed statement (set log_bin_compress to OFF)',
  166: 'compressed rows (set log_bin_compress to OFF)',
  167: 'compressed rows (set log_bin_compress to OFF)',
  168: 'compressed rows (set log_bin_compress to OFF)',
  169: 'compressed rows (set log_bin_compress to OFF)',
  170: 'compressed rows (set log_bin_compress to OFF)',
  171: 'compressed rows (set log_bin_compress to OFF)',
};

const HEADER_BYTES = 19;
const CHECKSUM_BYTES = 4;
const FLAG_ARTIFICIAL = 0x20;
const FLAG_IGNORABLE = 0x80;

export type BinlogEvent =
  | { readonly kind: 'rotate'; readonly file: string }
  | { readonly kind: 'gtid'; readonly gtid: string; readonly commitMs: number; readonly standalone: boolean }
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'query'; readonly schema: string; readonly sql: string }
  | { readonly kind: 'xid' }
  | { readonly kind: 'xaPrepare'; readonly onePhase: boolean }
  | { readonly kind: 'tableMap'; readonly body: Bytes }
  | {
      readonly kind: 'rows';
      readonly op: 'insert' | 'update' | 'delete';
      readonly version2: boolean;
      readonly body: Bytes;
    };

export interface ParsedEvent {
  /** Null for an event that says nothing. */
  readonly event: BinlogEvent | null;
  /** End of the event in its file, low 32 bits; 0 where the server does not say. */
  readonly endLow: number;
}

const ROWS: Readonly<
  Record<number, { readonly op: 'insert' | 'update' | 'delete'; readonly version2: boolean }>
> = {
  [EVENT.WRITE_ROWS_V1]: { op: 'insert', version2: false },
  [EVENT.UPDATE_ROWS_V1]: { op: 'update', version2: false },
  [EVENT.DELETE_ROWS_V1]: { op: 'delete', version2: false },
  [EVENT.WRITE_ROWS]: { op: 'insert', version2: true },
  [EVENT.UPDATE_ROWS]: { op: 'update', version2: true },
  [EVENT.DELETE_ROWS]: { op: 'delete', version2: true },
};

/**
 * Reads one event. What is not known, or holds rows that cannot be read, is an error: nothing is passed over.
 * @param raw the event with its header, without the status byte of the packet
 * @throws VerdigrisError SOURCE_PROTOCOL
 */
export function parseEvent(raw: Buffer, checksums: boolean): ParsedEvent {
  if (raw.length < HEADER_BYTES) throw protocol('an event without a header');
  const timestamp = raw.readUInt32LE(0);
  const type = raw[4] as number;
  const serverId = raw.readUInt32LE(5);
  const endLow = raw.readUInt32LE(13);
  const flags = raw.readUInt16LE(17);
  if (SILENT.has(type)) return { event: null, endLow };
  const end = checksums ? raw.length - CHECKSUM_BYTES : raw.length;
  if (checksums && (flags & FLAG_ARTIFICIAL) === 0 && crc32(raw.subarray(0, end)) !== raw.readUInt32LE(end))
    throw protocol('an event whose checksum is wrong');
  const body = new Bytes(raw, HEADER_BYTES, end);
  return { event: eventOf(type, body, { timestamp, serverId, flags }), endLow };
}

function eventOf(
  type: number,
  body: Bytes,
  header: { readonly timestamp: number; readonly serverId: number; readonly flags: number },
): BinlogEvent | null {
  const rows = ROWS[type];
  if (rows !== undefined) return { kind: 'rows', ...rows, body };
  switch (type) {
    case EVENT.TABLE_MAP:
      return { kind: 'tableMap', body };
    case EVENT.XID:
      return { kind: 'xid' };
    case EVENT.ROTATE:
      body.skip(8);
      return { kind: 'rotate', file: body.text(body.left) };
    case EVENT.QUERY:
      return query(body);
    case EVENT.GTID:
      return gtid(body, header.timestamp);
    case EVENT.GTID_TAGGED:
      return taggedGtid(body, header.timestamp);
    case EVENT.ANONYMOUS_GTID:
      return { kind: 'anonymous' };
    case EVENT.XA_PREPARE:
      return { kind: 'xaPrepare', onePhase: body.u8() !== 0 };
    case EVENT.MARIADB_GTID: {
      const sequence = body.u64();
      const domain = body.u32();
      const standalone = (body.u8() & 0x01) !== 0;
      const commitMs = header.timestamp * 1000;
      return { kind: 'gtid', gtid: `${domain}-${header.serverId}-${sequence}`, commitMs, standalone };
    }
    default: {
      const why = UNREADABLE[type];
      if (why !== undefined) throw protocol(why);
      if ((header.flags & FLAG_IGNORABLE) !== 0) return null;
      throw protocol(`an event of the unknown type ${type}`);
    }
  }
}

function query(body: Bytes): BinlogEvent {
  body.skip(8);
  const schemaLength = body.u8();
  body.skip(2);
  body.skip(body.u16());
  const schema = body.text(schemaLength);
  body.skip(1);
  return { kind: 'query', schema, sql: body.text(body.left) };
}

/** Since 8.0.1 the time of the commit in microseconds follows the logical clock. */
function gtid(body: Bytes, timestamp: number): BinlogEvent {
  body.skip(1);
  const uuid = showUuid(body.slice(16));
  const number = body.u64();
  let commitMs = timestamp * 1000;
  if (body.left >= 1 + 16 + 7) {
    body.skip(1 + 16);
    const low = body.u32();
    const high = body.uint(3);
    // The highest bit says that the time of the original commit follows.
    commitMs = Math.floor(((high & 0x7fffff) * 2 ** 32 + low) / 1000);
  }
  return { kind: 'gtid', gtid: `${uuid}:${number}`, commitMs, standalone: false };
}

/**
 * A GTID with a tag (8.3 and newer) is one message of the server's serialization framework: fields with a number in front, every
 * integer with its length in the low bits of its first byte.
 */
function taggedGtid(body: Bytes, timestamp: number): BinlogEvent {
  const start = body.at;
  if (varint(body) !== 1n) throw protocol('a tagged GTID in an unknown version');
  const end = start + Number(varint(body));
  varint(body);
  let uuid = '';
  let number = 0n;
  let tag = '';
  let commitMs = timestamp * 1000;
  while (body.at < end) {
    const field = varint(body);
    if (field === 0n) varint(body);
    else if (field === 1n)
      uuid = showUuid(Buffer.from(Array.from({ length: 16 }, () => Number(varint(body)))));
    else if (field === 2n) number = zigzag(varint(body));
    else if (field === 3n) tag = body.text(Number(varint(body)));
    else if (field === 4n || field === 5n) varint(body);
    else {
      if (field === 6n) commitMs = Number(varint(body) / 1000n);
      break;
    }
  }
  if (uuid === '' || number <= 0n) throw protocol('a tagged GTID without its parts');
  body.at = Math.min(end, body.end);
  return {
    kind: 'gtid',
    gtid: tag === '' ? `${uuid}:${number}` : `${uuid}:${tag}:${number}`,
    commitMs,
    standalone: false,
  };
}

const zigzag = (value: bigint): bigint => (value & 1n ? -((value >> 1n) + 1n) : value >> 1n);

/** The count of trailing ones of the first byte is the count of bytes that follow. */
function varint(body: Bytes): bigint {
  const first = body.u8();
  let extra = 0;
  while (extra < 8 && ((first >> extra) & 1) === 1) extra += 1;
  if (extra === 8) return body.u64();
  let value = BigInt(first >> (extra + 1));
  for (let index = 0; index < extra; index += 1) value |= BigInt(body.u8()) << BigInt(8 * index + 7 - extra);
  return value;
}

function showUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

const protocol = (what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
