import type { Relation, Tuple } from '../../src/core/table.ts';

export interface Messages {
  readonly buffer: Buffer;
  readonly spans: readonly { readonly start: number; readonly end: number }[];
}

const OIDS: Readonly<Record<string, number>> = {
  integer: 23,
  smallint: 21,
  text: 25,
  'numeric(12,2)': 1700,
  'timestamp with time zone': 1184,
};

/** What pgoutput sends for inserts of these rows: the announcement of the relation, then one message a row. */
export function messages(relation: Relation, rows: readonly Tuple[]): Messages {
  const parts = [announcement(relation), ...rows.map(insert)];
  const spans: { start: number; end: number }[] = [];
  let at = 0;
  for (const part of parts) {
    spans.push({ start: at, end: at + part.length });
    at += part.length;
  }
  return { buffer: Buffer.concat(parts), spans };
}

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
};

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

function announcement(relation: Relation): Buffer {
  const { schema, name } = relation.table;
  const columns = relation.columns.flatMap((column, index) => [
    Buffer.from([relation.key.includes(index) ? 1 : 0]),
    Buffer.from(`${column.name}\0`),
    u32(OIDS[column.type] ?? 25),
    u32(-1),
  ]);
  const head = [Buffer.from('R'), u32(1), Buffer.from(`${schema}\0${name}\0d`), u16(relation.columns.length)];
  return Buffer.concat([...head, ...columns]);
}

function insert(row: Tuple): Buffer {
  const cells = row.flatMap((cell) => {
    const text = Buffer.from(String(cell));
    return [Buffer.from('t'), u32(text.length), text];
  });
  return Buffer.concat([Buffer.from('I'), u32(1), Buffer.from('N'), u16(row.length), ...cells]);
}
