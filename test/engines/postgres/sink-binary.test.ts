import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cell, Tuple } from '../../../src/core/table.ts';
import {
  binaryArray,
  binaryCopy,
  binaryForm,
  type BinaryForm,
} from '../../../src/engines/postgres/sink-binary.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { green, insert, update } from './sink-setup.ts';

const formOf = (type: string): BinaryForm => {
  const form = binaryForm(type);
  if (form === undefined) throw new Error(`no binary form of ${type}`);
  return form;
};
const column = (texts: readonly Cell[]): Tuple[] => texts.map((text) => [text]);

/** Texts as a server prints values of the type, or as a mapping makes them, and texts of which the server has to judge. */
const TEXTS: Readonly<
  Record<string, { readonly plain: readonly string[]; readonly others: readonly string[] }>
> = {
  boolean: { plain: ['t', 'f'], others: ['true', '1', '', 'T'] },
  smallint: {
    plain: ['0', '-1', '32767', '-32768', '007'],
    others: ['32768', '-32769', '', '-', '1.0', ' 1', '+1'],
  },
  integer: {
    plain: ['0', '2147483647', '-2147483648', '65536'],
    others: ['2147483648', '-2147483649', '1e3', '0x1f'],
  },
  bigint: {
    plain: [
      '0',
      '-1',
      '4294967296',
      '-4294967297',
      '9007199254740993',
      '9223372036854775807',
      '-9223372036854775808',
    ],
    others: ['9223372036854775808', '-9223372036854775809', '99999999999999999999', '1_000', '--1'],
  },
  'double precision': {
    plain: ['0', '0.1', '-1.5', '1e+300', '5e-324', '1.7976931348623157e+308', '9007199254740993'],
    others: ['NaN', 'Infinity', '-0', '1e400', '1e-400', '0.0', '.5', '0x10', ''],
  },
  numeric: {
    plain: [
      '0',
      '0.00',
      '-0.000',
      '1',
      '9999',
      '10000',
      '10000.0001',
      '-0.00001',
      '123456789012345678901234567890.0120',
      '1000000000000',
      '00012.10',
      `0.${'0'.repeat(300)}7`,
    ],
    others: ['NaN', 'Infinity', '-Infinity', '1e5', '.5', '5.', '-', '', '1.2.3', '1,5', ' 1'],
  },
  text: { plain: ['', 'a\tb\\n', '\n', 'é€😀', 'x'.repeat(9_000)], others: [] },
  'character varying': { plain: ['', 'ü', 'NULL'], others: [] },
  bpchar: { plain: ['a  ', '', 'é'], others: [] },
  json: { plain: ['{"b": 1, "a" : 1.0}', '[]', 'null', '"\\u00e9"'], others: [] },
  jsonb: { plain: ['{"b": 1, "a": 1.00, "b": 2}', '[]', 'null', '"é"'], others: [] },
  uuid: {
    plain: ['00000000-0000-0000-0000-000000000000', 'A0eebc99-9c0b-4ef8-bb6d-6bb9bd380aff'],
    others: [
      'a0eebc999c0b4ef8bb6d6bb9bd380a11',
      '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1',
      'g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      'é0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    ],
  },
  date: {
    plain: [
      '2000-01-01',
      '1999-12-31',
      '2000-02-29',
      '1900-02-28',
      '2400-02-29',
      '1000-01-01',
      '9999-12-31',
      '1970-03-01',
    ],
    others: [
      'infinity',
      '-infinity',
      '0044-03-15 BC',
      '0999-01-01',
      '10000-01-01',
      '1900-02-29',
      '2001-00-10',
      '2001-13-01',
      '2001-04-31',
      '2001-04-00',
      '01/02/2003',
      '2001/04/01',
    ],
  },
  'timestamp without time zone': {
    plain: [
      '2000-01-01 00:00:00',
      '1999-12-31 23:59:59.999999',
      '2024-02-29 12:34:56.7',
      '1715-01-01 00:00:00',
      '2285-01-01 00:00:00',
    ],
    others: [
      'infinity',
      '1700-01-01 00:00:00',
      '2300-01-01 00:00:00',
      '2000-01-01 24:00:00',
      '2000-01-01 00:00:60',
      '2000-01-01T00:00:00',
      '2000-01-01 00:00:00+00',
      '2000-01-01 00:00:00.',
      '2000-01-01 00:00:00.1234567',
      '2000-01-01',
      '2000-01-01 00:00:00 BC',
    ],
  },
  'timestamp with time zone': {
    plain: [
      '2000-01-01 00:00:00+00',
      '1999-12-31 23:59:59.999999-03:30',
      '2024-02-29 12:34:56.05+13',
      '1890-01-01 00:00:00+00:53:28',
      '2020-06-01 00:00:00.1-12',
    ],
    others: [
      '-infinity',
      '2000-01-01 00:00:00',
      '2000-01-01 00:00:00Z',
      '2000-01-01 00:00:00 UTC',
      '2000-01-01 00:00:00+16',
      '2000-01-01 00:00:00+0',
      '2000-01-01 00:00:00+01:60',
      '2000-01-01 00:00:00+01:00:00:00',
      '0044-03-15 00:00:00+00 BC',
    ],
  },
};

/** What the server makes of both ways, as it prints them. */
async function readings(
  db: TestDatabase,
  type: string,
  texts: readonly string[],
): Promise<{ own: unknown; text: unknown }[]> {
  const bytes = binaryArray(column(texts), 0, formOf(type));
  if (bytes === null) throw new Error(`${type}: one of these was not taken`);
  const { rows } = await db.client.query<{ own: unknown; text: unknown }>(
    `SELECT a::text AS own, b::${type}::text AS text FROM unnest($1::${type}[], $2::text[]) AS u(a, b)`,
    [bytes, texts],
  );
  expect(rows).toHaveLength(texts.length);
  return rows;
}

for (const version of [14, 18] as const) {
  test(`binary values are those that the server reads from the text (${version})`, async () => {
    await using db = await createDatabase(version);
    await db.query(`SET timezone = 'America/St_Johns'`);
    for (const [type, { plain }] of Object.entries(TEXTS)) {
      for (const { own, text } of await readings(db, type, plain)) expect([type, own]).toEqual([type, text]);
    }
  });
}

test('what is not plain is left to the server, whatever stands around it', () => {
  for (const [type, { plain, others }] of Object.entries(TEXTS)) {
    for (const text of others) {
      expect([type, text, binaryArray(column([...plain, null, text]), 0, formOf(type))]).toEqual([
        type,
        text,
        null,
      ]);
      expect(binaryCopy(column([...plain, text]), [0], [formOf(type)], 2)).toBeNull();
    }
  }
  expect(binaryForm('mood')).toBeUndefined();
  expect(binaryForm('constructor')).toBeUndefined();
});

const two = (value: number): string => String(value).padStart(2, '0');
const day = fc
  .record({ year: fc.integer({ min: 1716, max: 2284 }), at: fc.integer({ min: 0, max: 364 }) })
  .map(({ year, at }) => new Date(Date.UTC(year, 0, 1 + at)).toISOString().slice(0, 10));
const moment = fc
  .tuple(
    day,
    fc.integer({ min: 0, max: 23 }),
    fc.integer({ min: 0, max: 59 }),
    fc.integer({ min: 0, max: 59 }),
    fc.stringMatching(/^(\.\d{1,6})?$/),
  )
  .map(
    ([date, hours, minutes, seconds, fraction]) =>
      `${date} ${two(hours)}:${two(minutes)}:${two(seconds)}${fraction}`,
  );
const zone = fc
  .tuple(
    fc.constantFrom('+', '-'),
    fc.integer({ min: 0, max: 14 }),
    fc.constantFrom('', ':00', ':30', ':45', ':53:28'),
  )
  .map(([sign, hours, rest]) => `${sign}${two(hours)}${rest}`);
const RANDOM: Readonly<Record<string, fc.Arbitrary<string>>> = {
  smallint: fc.integer({ min: -0x8000, max: 0x7fff }).map(String),
  integer: fc.maxSafeInteger().map((value) => String(value % 0x7fff_ffff)),
  bigint: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
  'double precision': fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .filter((value) => value !== 0)
    .map(String),
  numeric: fc.stringMatching(/^-?\d{1,30}(\.\d{1,30})?$/),
  date: day,
  'timestamp without time zone': moment,
  'timestamp with time zone': fc.tuple(moment, zone).map((parts) => parts.join('')),
  uuid: fc.uuid(),
};

test('random values of every type with a form of its own', async () => {
  await using db = await createDatabase(18);
  for (const [type, texts] of Object.entries(RANDOM)) {
    await fc.assert(
      fc.asyncProperty(fc.array(texts, { minLength: 50, maxLength: 200 }), async (values) => {
        for (const { own, text } of await readings(db, type, values)) expect(own).toBe(text);
      }),
      { numRuns: 10 },
    );
  }
});

const TABLE = `CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE >= 0);
  CREATE TABLE t (id bigint PRIMARY KEY, s smallint, i integer, n numeric(20,4), c cents, f double precision, b boolean, v varchar(10), ch char(5), body text,
    j json, jb jsonb, u uuid, d date, ts timestamp, tz timestamptz(3), up text GENERATED ALWAYS AS (upper(v)) STORED)`;
const row = (id: number, change: Readonly<Record<number, Cell>> = {}): Tuple =>
  Object.assign(
    [
      String(id),
      '-7',
      '70000',
      '12345.67891',
      '3.999',
      '0.1',
      't',
      `v${id}`,
      'ab',
      'body '.repeat(60),
      '{"a" : 1}',
      '{"a":1}',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      '2024-02-29',
      '1999-12-31 23:59:59.5',
      '2024-02-29 12:34:56.78951+02',
    ],
    change,
  );
const COLUMNS = Array.from({ length: 16 }, (_, index) => index);

test("a large group goes in by binary COPY and by text alike: lengths, scales and domains are the column's own", async () => {
  await using g = await green(TABLE);
  const t = await g.target('t');
  await g.sink.prepare([t]);
  const rows = Array.from({ length: 2_500 }, (_, index) => row(index + 1));
  await g.apply(insert(t.relation, ...rows));
  // One value that is not plain, and all of it goes as text.
  const others = Array.from({ length: 2_500 }, (_, index) =>
    row(10_000 + index, index === 1_234 ? { 15: 'infinity', 3: null } : {}),
  );
  await g.apply(insert(t.relation, ...others));
  const alike = `SELECT count(*)::text, n::text, c::text, f::text, b::text, ch, md5(body), j::text, jb::text, u::text, d::text, ts::text, (tz AT TIME ZONE 'UTC')::text AS tz
    FROM t GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 ORDER BY count(*)`;
  const body = createHash('md5').update('body '.repeat(60)).digest('hex');
  const same = `4.00|0.1|true|ab   |${body}|{"a" : 1}|{"a": 1}|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|2024-02-29|1999-12-31 23:59:59.5`;
  expect(await g.rows(alike)).toEqual([
    `1|∅|${same}|infinity`,
    `4999|12345.6789|${same}|2024-02-29 10:34:56.79`,
  ]);
  await g.apply(
    update(
      t.relation,
      COLUMNS,
      row(1, { 3: '0.00005', 7: null }),
      row(2, { 15: '-infinity', 13: '0044-03-15 BC' }),
    ),
  );
  expect(
    await g.rows(
      `SELECT id, n, v, up, d::text, (tz AT TIME ZONE 'UTC')::text FROM t WHERE id < 3 ORDER BY id`,
    ),
  ).toEqual(['1|0.0001|∅|∅|2024-02-29|2024-02-29 10:34:56.79', '2|12345.6789|v2|V2|0044-03-15 BC|-infinity']);
});

test('a value that the column refuses fails as it does as text, and nothing of the group stays', async () => {
  await using g = await green(TABLE);
  const t = await g.target('t');
  await g.sink.prepare([t]);
  for (const change of [
    { 7: 'longer than ten' },
    { 3: '12345678901234567.1' },
    { 4: '-1.00' },
    { 11: '{"a":}' },
  ]) {
    for (const bad of [change, { ...change, 15: 'infinity' }]) {
      const rows = Array.from({ length: 2_500 }, (_, index) => row(index + 1, index === 1_234 ? bad : {}));
      await expect(g.apply(insert(t.relation, ...rows))).rejects.toMatchObject({
        context: { table: 'public.t', key: { id: '1235' } },
      });
      expect(await g.rows('SELECT count(*) FROM t')).toEqual(['0']);
    }
  }
});
