import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../src/core/errors.ts';
import { UNCHANGED } from '../../src/core/table.ts';
import { Decoder } from '../../src/engines/postgres/decoder.ts';

type Part = number | string | bigint | Buffer | { readonly u32: number } | { readonly u16: number };

/** number: a byte; string: a C string; bigint: 64 bits. */
function bytes(...parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.from([part]);
      if (typeof part === 'string') return Buffer.concat([Buffer.from(part), Buffer.from([0])]);
      if (Buffer.isBuffer(part)) return part;
      const buffer = Buffer.alloc(typeof part === 'bigint' ? 8 : 'u32' in part ? 4 : 2);
      if (typeof part === 'bigint') buffer.writeBigInt64BE(part);
      else if ('u32' in part) buffer.writeUInt32BE(part.u32);
      else buffer.writeUInt16BE(part.u16);
      return buffer;
    }),
  );
}

const tag = (letter: string): number => letter.charCodeAt(0);
const u32 = (value: number) => ({ u32: value });
const u16 = (value: number) => ({ u16: value });
const text = (value: string | Buffer): Buffer =>
  bytes(tag('t'), u32(Buffer.byteLength(value)), Buffer.from(value));
const NULL = Buffer.from('n');
const TOAST = Buffer.from('u');

const relation = (identity = 'd', flags: readonly number[] = [1, 0]): Buffer =>
  bytes(
    tag('R'),
    u32(7),
    'public',
    't',
    tag(identity),
    u16(2),
    flags[0] as number,
    'id',
    u32(20),
    u32(0xffffffff),
    flags[1] as number,
    'v',
    u32(25),
    u32(0xffffffff),
  );

const tuple = (...cells: readonly Buffer[]): Buffer => bytes(u16(cells.length), ...cells);

function decoder(...messages: readonly Buffer[]): (message: Buffer) => ReturnType<Decoder['decode']> {
  const made = new Decoder();
  for (const message of messages) made.decode(message, 0, message.length);
  return (message) => made.decode(message, 0, message.length);
}

describe('the pgoutput decoder', () => {
  test('texts that repeat, and texts that only look like the one before, come out as they were sent', () => {
    // As characters of one byte each, the UTF-8 of the second is the first of the next.
    const texts = [
      '',
      'a',
      'é',
      'Ã©',
      '\u00c3\u0083',
      'aa',
      'aé',
      'éa',
      'x'.repeat(300),
      `${'x'.repeat(299)}y`,
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...texts), { minLength: 1, maxLength: 20 }), (rows) => {
        const decode = decoder(relation());
        for (const [n, value] of rows.entries()) {
          const message = decode(bytes(tag('I'), u32(7), tag('N'), tuple(text(String(n >> 1)), text(value))));
          expect(message).toMatchObject({ after: [String(n >> 1), value] });
        }
      }),
    );
    const decode = decoder(relation());
    decode(bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), text('é'))));
    const latin = bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), text(Buffer.from([0xe9]))));
    expect(() => decode(latin)).toThrow(/not UTF-8/);
  });

  test('begin, commit, origin, type, relation', () => {
    const decode = decoder();
    const at = 815_000_000_123_456n;
    const ms = Number(at / 1000n) + 946_684_800_000;
    expect(decode(bytes(tag('B'), 0x10n, at, u32(0xfffffff0)))).toEqual({
      kind: 'begin',
      commitLsn: 16n,
      commitMs: ms,
      xid: 0xfffffff0,
    });
    expect(decode(bytes(tag('C'), 0, 0x10n, 0x20n, at))).toEqual({
      kind: 'commit',
      commitLsn: 16n,
      endLsn: 32n,
      commitMs: ms,
    });
    expect(decode(bytes(tag('O'), 5n, 'other'))).toEqual({ kind: 'origin', lsn: 5n, name: 'other' });
    expect(decode(bytes(tag('Y'), u32(20000), 'public', 'mood'))).toEqual({
      kind: 'type',
      oid: 20000,
      schema: 'public',
      name: 'mood',
    });
    expect(decode(relation())).toMatchObject({
      kind: 'relation',
      id: 7,
      schema: 'public',
      name: 't',
      identity: 'd',
    });
    expect(decode(bytes(tag('Y'), u32(16), '', 'bool'))).toMatchObject({ schema: 'pg_catalog' });
  });

  test('rows: text, NULL, unchanged TOAST (F53), empty text, text that is not ASCII', () => {
    const decode = decoder(relation());
    const insert = (...cells: Buffer[]) => decode(bytes(tag('I'), u32(7), tag('N'), tuple(...cells)));
    expect(insert(text('9007199254740993'), text('höhe 😀'))).toMatchObject({
      after: ['9007199254740993', 'höhe 😀'],
      before: null,
    });
    expect(insert(text('1'), NULL)).toMatchObject({ after: ['1', null] });
    expect(insert(text('1'), text(''))).toMatchObject({ after: ['1', ''] });
    expect(insert(text('1'), text('\uFFFD'))).toMatchObject({ after: ['1', '\uFFFD'] });
    expect(decode(bytes(tag('U'), u32(7), tag('N'), tuple(text('1'), TOAST)))).toMatchObject({
      kind: 'update',
      after: ['1', UNCHANGED],
      before: null,
    });
  });

  test('cells that a key tuple does not carry are UNCHANGED, NULL in a whole old row is NULL', () => {
    const decode = decoder(relation());
    expect(decode(bytes(tag('D'), u32(7), tag('K'), tuple(text('1'), NULL)))).toMatchObject({
      before: ['1', UNCHANGED],
      after: null,
    });
    expect(
      decode(bytes(tag('U'), u32(7), tag('K'), tuple(text('1'), NULL), tag('N'), tuple(text('2'), TOAST))),
    ).toMatchObject({
      before: ['1', UNCHANGED],
      after: ['2', UNCHANGED],
    });
    const full = decoder(relation('f', [1, 1]));
    expect(full(bytes(tag('D'), u32(7), tag('O'), tuple(text('1'), NULL)))).toMatchObject({
      before: ['1', null],
    });
  });

  test('a whole old row completes the new one', () => {
    const decode = decoder(relation('f', [1, 1]));
    expect(
      decode(
        bytes(tag('U'), u32(7), tag('O'), tuple(text('1'), text('long')), tag('N'), tuple(text('1'), TOAST)),
      ),
    ).toMatchObject({
      before: ['1', 'long'],
      after: ['1', 'long'],
    });
  });

  test('truncate of several tables, logical message', () => {
    const decode = decoder(relation());
    expect(decode(bytes(tag('T'), u32(2), 3, u32(7), u32(7)))).toMatchObject({
      kind: 'truncate',
      cascade: true,
      restartIdentity: true,
      relations: [{ id: 7 }, { id: 7 }],
    });
    expect(decode(bytes(tag('M'), 1, 9n, 'verdigris', u32(3), Buffer.from('abc')))).toMatchObject({
      kind: 'message',
      transactional: true,
      prefix: 'verdigris',
      content: Buffer.from('abc'),
    });
    expect(decode(bytes(tag('M'), 0, 9n, '', u32(0)))).toMatchObject({ transactional: false });
  });

  test('blocks of transactions in progress carry a (sub)transaction id before the row', () => {
    const made = new Decoder();
    const decode = (message: Buffer) => made.decode(message, 0, message.length);
    expect(decode(bytes(tag('S'), u32(700), 1))).toEqual({ kind: 'streamStart', xid: 700, first: true });
    made.inStream = true;
    decode(bytes(tag('R'), u32(700), relation().subarray(1)));
    expect(decode(bytes(tag('I'), u32(701), u32(7), tag('N'), tuple(text('1'), NULL)))).toMatchObject({
      after: ['1', null],
    });
    expect(decode(bytes(tag('T'), u32(701), u32(1), 0, u32(7)))).toMatchObject({ kind: 'truncate' });
    expect(decode(bytes(tag('M'), u32(701), 1, 9n, 'p', u32(0)))).toMatchObject({ kind: 'message' });
    made.inStream = false;
    expect(decode(Buffer.from('E'))).toEqual({ kind: 'streamStop' });
    expect(decode(bytes(tag('A'), u32(700), u32(701)))).toEqual({
      kind: 'streamAbort',
      xid: 700,
      subXid: 701,
    });
    expect(decode(bytes(tag('c'), u32(700), 0, 1n, 2n, 0n))).toEqual({
      kind: 'streamCommit',
      xid: 700,
      commitLsn: 1n,
      endLsn: 2n,
      commitMs: 946_684_800_000,
    });
  });

  test.each([
    ['an unknown message', Buffer.from('b1234567')],
    ['a message of protocol 3', Buffer.from('P')],
    ['an empty message', Buffer.alloc(0)],
    ['bytes after the message', bytes(tag('E'), 0)],
    ['a row of a relation that was not announced', bytes(tag('I'), u32(8), tag('N'), tuple())],
    ['a row with fewer columns', bytes(tag('I'), u32(7), tag('N'), tuple(text('1')))],
    ['binary cells', bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), bytes(tag('b'), u32(1), 1)))],
    [
      'a length beyond the message',
      bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), bytes(tag('t'), u32(99), 1))),
    ],
    [
      'text that is not UTF-8 (F62)',
      bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), text(Buffer.from([0x61, 0xff])))),
    ],
    [
      'one byte that is not UTF-8',
      bytes(tag('I'), u32(7), tag('N'), tuple(text('1'), text(Buffer.from([0xe4])))),
    ],
    ['a name without an end', bytes(tag('O'), 5n, Buffer.from('abc'))],
    ['a huge truncate', bytes(tag('T'), u32(0xffffffff), 0)],
  ])('%s is fatal (I7)', (_what, message) => {
    const decode = decoder(relation());
    expect(() => decode(message)).toThrow(
      expect.objectContaining({ code: 'SOURCE_PROTOCOL', directive: 'fatal' }),
    );
  });

  test('fuzz: random bytes never hang and always give a message or a typed error (F33)', () => {
    const tags = 'BCORYIUDTMSEcAbPKrp'.split('').map(tag);
    const message = fc.tuple(
      fc.oneof(fc.constantFrom(...tags), fc.integer({ min: 0, max: 255 })),
      fc.uint8Array({ maxLength: 80 }),
      fc.boolean(),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), (messages) => {
        const made = new Decoder();
        made.decode(relation(), 0, relation().length);
        for (const [first, rest, inStream] of messages) {
          made.inStream = inStream;
          const buffer = Buffer.from([first, ...rest]);
          try {
            expect(made.decode(buffer, 0, buffer.length)).toHaveProperty('kind');
          } catch (error) {
            expect(error).toBeInstanceOf(VerdigrisError);
            expect((error as VerdigrisError).code).toBe('SOURCE_PROTOCOL');
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('fuzz: a message that is cut or flipped never gives another row than a typed error or a row', () => {
    const insert = bytes(tag('I'), u32(7), tag('N'), tuple(text('12345'), text('some text')));
    fc.assert(
      fc.property(fc.nat(insert.length - 1), fc.nat(255), fc.nat(insert.length), (at, value, length) => {
        const decode = decoder(relation());
        const broken = Buffer.from(insert.subarray(0, length));
        if (at < length) broken[at] = value;
        try {
          decode(broken);
        } catch (error) {
          expect(error).toMatchObject({ code: 'SOURCE_PROTOCOL' });
        }
      }),
      { numRuns: 1500 },
    );
  });
});
