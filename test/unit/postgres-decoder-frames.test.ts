import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  FrameQueue,
  FrameSplitter,
  replicationFrames,
  rowFrames,
} from '../../src/engines/postgres/plugin-frames.ts';

const frame = (code: string, body: Buffer): Buffer => {
  const header = Buffer.alloc(5);
  header[0] = code.charCodeAt(0);
  header.writeUInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
};

const xlog = (lsn: bigint, payload: Buffer): Buffer => {
  const header = Buffer.alloc(25);
  header[0] = 0x77;
  header.writeBigUInt64BE(lsn, 1);
  return frame('d', Buffer.concat([header, payload]));
};

const keepalive = (lsn: bigint, reply: boolean): Buffer => {
  const body = Buffer.alloc(18);
  body[0] = 0x6b;
  body.writeBigUInt64BE(lsn, 1);
  body[17] = reply ? 1 : 0;
  return frame('d', body);
};

const DEAF = { keepalive: () => undefined, other: () => undefined, data: () => undefined };

/** A row of one binary column. */
const dataRow = (payload: Buffer): Buffer => {
  const header = Buffer.alloc(6);
  header.writeInt16BE(1, 0);
  header.writeInt32BE(payload.length, 2);
  return frame('D', Buffer.concat([header, payload]));
};

type Item =
  | { readonly kind: 'data'; readonly payload: Uint8Array }
  | { readonly kind: 'keepalive'; readonly reply: boolean }
  | { readonly kind: 'other'; readonly body: Uint8Array };

const item: fc.Arbitrary<Item> = fc.oneof(
  fc.record({ kind: fc.constant('data' as const), payload: fc.uint8Array({ minLength: 1, maxLength: 300 }) }),
  fc.record({ kind: fc.constant('keepalive' as const), reply: fc.boolean() }),
  fc.record({ kind: fc.constant('other' as const), body: fc.uint8Array({ maxLength: 20 }) }),
);

describe('cutting the byte stream into frames', () => {
  test('however the bytes are cut, the same messages come out in order, and all bytes are given back', () => {
    fc.assert(
      fc.property(
        fc.array(item, { maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
        (items, cuts) => {
          const bytes = Buffer.concat(
            items.map((one, index) => {
              const lsn = BigInt(index + 1);
              if (one.kind === 'data') return xlog(lsn, Buffer.from(one.payload));
              return one.kind === 'keepalive' ? keepalive(lsn, one.reply) : frame('N', Buffer.from(one.body));
            }),
          );
          const alive: [bigint, boolean][] = [];
          const others: Buffer[] = [];
          const messages: Buffer[] = [];
          let newest = 0n;
          const queue = new FrameQueue();
          const splitter = new FrameSplitter(
            queue,
            replicationFrames({
              keepalive: (walEnd, reply) => alive.push([walEnd, reply]),
              other: (whole) => others.push(Buffer.from(whole)),
              data: (lsn) => (newest = lsn),
            }),
          );
          const read = (): void => {
            while (queue.next()) messages.push(Buffer.from(queue.buffer.subarray(queue.start, queue.end)));
          };
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const size = cuts[turn % cuts.length] as number;
            splitter.push(Buffer.from(bytes.subarray(at, at + size)));
            at += size;
            if (turn % 3 === 0) read();
          }
          read();
          const data = items.flatMap((one) => (one.kind === 'data' ? [Buffer.from(one.payload)] : []));
          expect(messages).toEqual(data);
          expect(alive).toEqual(
            items.flatMap((one, index) => (one.kind === 'keepalive' ? [[BigInt(index + 1), one.reply]] : [])),
          );
          expect(others).toEqual(
            items.flatMap((one) => (one.kind === 'other' ? [frame('N', Buffer.from(one.body))] : [])),
          );
          expect(queue.bytes).toBe(0);
          expect(queue.empty).toBe(true);
          expect(newest).toBe(BigInt(items.findLastIndex((one) => one.kind === 'data') + 1));
        },
      ),
    );
  });

  test('a message of many chunks is put together once, not once per chunk', () => {
    const payload = Buffer.alloc(8 << 20, 0x61);
    const bytes = xlog(1n, payload);
    const queue = new FrameQueue();
    const splitter = new FrameSplitter(queue, replicationFrames(DEAF));
    const started = performance.now();
    for (let at = 0; at < bytes.length; at += 1024) splitter.push(bytes.subarray(at, at + 1024));
    expect(queue.next()).toBe(true);
    expect(queue.end - queue.start).toBe(payload.length);
    // Quadratic copying would move 32 GB here.
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  test('what cannot be a frame is a typed error', () => {
    const splitter = new FrameSplitter(new FrameQueue(), replicationFrames(DEAF));
    expect(() => splitter.push(Buffer.from([0x64, 0, 0, 0, 2, 0x77]))).toThrow(
      expect.objectContaining({ code: 'SOURCE_PROTOCOL' }),
    );
    const second = new FrameSplitter(new FrameQueue(), replicationFrames(DEAF));
    expect(() => second.push(frame('d', Buffer.from('zzz')))).toThrow(
      expect.objectContaining({ code: 'SOURCE_PROTOCOL' }),
    );
  });

  test('rows of a backlog and log data of a walsender come out of one queue in the order in which they arrived', () => {
    const queue = new FrameQueue();
    const others: string[] = [];
    const rows = new FrameSplitter(
      queue,
      rowFrames({
        data: () => undefined,
        other: (whole) => others.push(String.fromCharCode(whole[0] as number)),
      }),
    );
    const walsender = new FrameSplitter(queue, replicationFrames(DEAF));
    const answer = Buffer.concat([
      frame('T', Buffer.from('columns')),
      dataRow(Buffer.from('one')),
      // A walsender's tag inside of a row is nothing but a byte.
      dataRow(Buffer.from('w')),
      frame('C', Buffer.from('SELECT 2')),
    ]);
    for (const byte of answer) rows.push(Buffer.from([byte]));
    walsender.push(Buffer.concat([keepalive(1n, false), xlog(2n, Buffer.from('three'))]));
    const messages: string[] = [];
    while (queue.next()) messages.push(queue.buffer.toString('utf8', queue.start, queue.end));
    expect(messages).toEqual(['one', 'w', 'three']);
    expect(others).toEqual(['T', 'C']);
    expect(queue.bytes).toBe(0);
  });
});
