/** Values of one column; every one becomes a row. */
export interface TypeColumn {
  /** The type as a column definition says it. */
  readonly type: string;
  /** The entry of `pg_type` that it stands for, schema first. */
  readonly covers: string;
  /** Text forms that the server reads. */
  readonly values: readonly string[];
  /** Separates elements of an array of it. Default: a comma. */
  readonly delimiter?: string;
  /** Values only for this version and newer, on both sides. */
  readonly since?: Readonly<Record<number, readonly string[]>>;
  /** The type itself is only there from this version on. */
  readonly from?: number;
}

/** No run of a compressor shortens it below what a page takes. */
function incompressible(length: number): string {
  let state = 42;
  let text = '';
  while (text.length < length) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    text += String.fromCharCode(33 + ((state >> 8) % 90));
  }
  return text;
}

const CONTROLS = Array.from({ length: 31 }, (_, index) => String.fromCharCode(index + 1)).join('') + '\u007f';
const TEXTS = [
  '',
  ' ',
  'NULL',
  '\\N',
  '\\.',
  `a'b"c\\d,e{f}g;h(i)j`,
  CONTROLS,
  ' é\u00df\u2028\ufeff\u0301 \u{1f600}\u{10ffff} ',
  incompressible(12_000),
];

const of = (covers: string, values: readonly string[], more: Partial<TypeColumn> = {}): TypeColumn => ({
  type: covers,
  covers: `pg_catalog.${covers}`,
  values,
  ...more,
});
/** One more column of a type that is there already: with a length or a precision. */
const sized = (
  type: string,
  covers: string,
  values: readonly string[],
  more: Partial<TypeColumn> = {},
): TypeColumn => ({
  ...of(covers, values, more),
  type,
});
const domain = (name: string, values: readonly string[]): TypeColumn => ({
  type: `information_schema.${name}`,
  covers: `information_schema.${name}`,
  values,
});

const STAMPS = [
  'infinity',
  '-infinity',
  '4714-11-24 00:00:00 BC',
  '0044-03-15 12:00:00.000001 BC',
  '0001-01-01 00:00:00',
  '1970-01-01 00:00:00',
  '2024-02-29 23:59:59.999999',
  '294276-12-31 23:59:59.999999',
];
const INTERVALS = [
  '0',
  '1 year -1 mon +3 days -04:05:06.789012',
  '-1 mon +1 day',
  '178000000 years',
  '-178000000 years',
  '2147483647 days',
  '-00:00:00.000001',
];
const MORE_INTERVALS = { 15: ['2562047788:00:54.775807'], 17: ['infinity', '-infinity'] };

/** At least one column for every type of the server that can hold a value anywhere. */
export const COLUMNS: readonly TypeColumn[] = [
  of('bool', ['t', 'f']),
  of('int2', ['0', '-32768', '32767']),
  of('int4', ['0', '-2147483648', '2147483647']),
  of('int8', ['0', '-9223372036854775808', '9223372036854775807', '9007199254740993']),
  of('float4', ['NaN', 'Infinity', '-Infinity', '-0', '0', '1e-45', '3.4028235e38', '0.1', '16777217']),
  of('float8', [
    'NaN',
    'Infinity',
    '-Infinity',
    '-0',
    '0',
    '5e-324',
    '1.7976931348623157e308',
    '0.1',
    '1e21',
    '123456789.123456789',
  ]),
  of('numeric', [
    'NaN',
    'Infinity',
    '-Infinity',
    '0',
    '-0.00',
    '1.0',
    '1.000',
    '18446744073709551616',
    '0.00000000000000000000000000000000000001',
    `${'9'.repeat(1_000)}.${'123'.repeat(400)}`,
    `1${'0'.repeat(131_000)}`,
  ]),
  sized('numeric(1000,500)', 'numeric', [
    'NaN',
    `-${'9'.repeat(500)}.${'1'.repeat(500)}`,
    '1',
    `0.${'0'.repeat(499)}1`,
  ]),
  sized('numeric(3,-2)', 'numeric', ['12300', '-99900', '0'], { from: 15 }),
  of('money', ['0', '0.01', '-92233720368547758.08', '92233720368547758.07', '-1234567.89']),
  of('text', TEXTS),
  of('varchar', TEXTS),
  sized('varchar(5)', 'varchar', ['', 'ab ', 'é\u{1f600}\u2028 ,']),
  of('bpchar', ['', 'a', 'a  ', ...TEXTS.slice(2, 6)]),
  sized('char(7)', 'bpchar', ['', 'a', 'a  ', 'é\u{1f600}', '\\"\t\n']),
  of('name', ['', 'a b', 'x"; drop table y; --', 'é'.repeat(31)]),
  {
    type: '"char"',
    covers: 'pg_catalog.char',
    values: ['', 'a', ' ', '\\', '"', ',', '\u0001'],
    since: { 16: ['\\377', '\\200'] },
  },
  of('bytea', [
    '\\x',
    '\\x00',
    '\\x5c5c00ff0a0d',
    `\\x${Buffer.from(incompressible(9_000)).toString('hex')}`,
  ]),
  of('uuid', [
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
  ]),
  of('date', ['infinity', '-infinity', '4714-11-24 BC', '0001-01-01', '2024-02-29', '5874897-12-31']),
  of('time', ['00:00:00', '24:00:00', '23:59:59.999999', '12:00:00.1']),
  sized('time(2)', 'time', ['12:34:56.78']),
  of('timetz', ['00:00:00+00', '24:00:00-15:59:59', '12:34:56.000001+15:59', '01:00:00-03:30']),
  of('timestamp', STAMPS),
  sized('timestamp(3)', 'timestamp', ['2024-02-29 23:59:59.123', 'infinity']),
  of(
    'timestamptz',
    STAMPS.map((stamp) =>
      stamp.includes('BC') ? stamp.replace(' BC', '+00 BC') : stamp.includes('inf') ? stamp : `${stamp}+00`,
    ),
  ),
  sized('timestamptz(0)', 'timestamptz', ['2024-10-27 02:30:00+02', '2024-10-27 02:30:00+01']),
  of('interval', INTERVALS, { since: MORE_INTERVALS }),
  sized('interval year to month', 'interval', ['1 year 2 mons', '-13 mons']),
  sized('interval day to second(3)', 'interval', ['1 day 02:03:04.567']),
  sized('bit(1)', 'bit', ['0', '1']),
  sized('bit(5)', 'bit', ['00000', '10101']),
  sized('bit(70)', 'bit', ['10'.repeat(35)]),
  of('varbit', ['', '1', '0'.repeat(9), '1101'.repeat(4_000)]),
  sized('varbit(9)', 'varbit', ['', '010101010']),
  of('json', [
    'null',
    '  { "a" : 1,\t"a":2 , "b":[ ] }\n',
    '"\\u0000 \\ud83d\\ude00"',
    '1e400',
    '-0',
    '[1.000,\n2]',
    `{"t":"${'t'.repeat(9_000)}"}`,
  ]),
  of('jsonb', [
    'null',
    '{}',
    '[]',
    '{"b": 1, "a": 2, "a": 3}',
    '123456789012345678901234567890.123456789012345678900',
    '[1e400, -0.0, 1E+2, 9007199254740993]',
    '"\\u0001\\u2028\\"\\\\"',
    JSON.stringify({ t: incompressible(9_000) }),
  ]),
  of('jsonpath', [
    '$',
    'strict $."a b"[*] ? (@.x > 1 && @.y like_regex "^z" flag "i")',
    '$.a.b[1 to last].keyvalue()',
    '-(1 + 2)',
  ]),
  of('xml', [
    '',
    'only text &amp; <b/>',
    '<?xml version="1.0"?><a b="1">&lt;x&gt;</a>',
    '<!-- c --><a>\n\té</a>',
    '<![CDATA[ ]]>',
  ]),
  of('point', ['(0,0)', '(-0,1e-300)', '(NaN,Infinity)', '(-Infinity,0.1)']),
  of('line', ['{1,-1,0}', '{0,1,-1e300}', '{-1,0,NaN}']),
  of('lseg', ['[(0,0),(1,1)]', '[(NaN,1),(Infinity,-0)]']),
  of('box', ['(1,1),(0,0)', '(Infinity,1),(-Infinity,-0)', '(NaN,2),(1,1)'], { delimiter: ';' }),
  of('path', ['[(0,0),(1,1),(2,0)]', '((0,0),(1,1))', '[(NaN,Infinity)]']),
  of('polygon', ['((0,0),(1,1),(2,0))', '((0.1,-0))', '((1,2),(Infinity,3))']),
  of('circle', ['<(0,0),0>', '<(1.5,-2),Infinity>', '<(NaN,0),NaN>']),
  of('inet', ['0.0.0.0', '10.1.2.3/8', '255.255.255.255/32', '::ffff:1.2.3.4/96', '::', 'fe80::1/64']),
  of('cidr', ['10.0.0.0/8', '0.0.0.0/0', '::/0', '2001:db8::/32', '1.2.3.4/32']),
  of('macaddr', ['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff']),
  of('macaddr8', ['00:00:00:00:00:00:00:00', '08:00:2b:01:02:03:04:05']),
  of('tsvector', ['', `'a':1A,3B 'it''s':2 '\\\\b':4C`, `' sp ace ' 'x,y'`, 'word:16383']),
  of('tsquery', ['', `'a' & !( 'b':*AB | 'c' ) <2> 'd'`, `'it''s' | '\\\\'`]),
  of('pg_lsn', ['0/0', 'FFFFFFFF/FFFFFFFF', '16/B374D848']),
  of('pg_snapshot', ['10:20:10,14,15', '1:1:']),
  of('txid_snapshot', ['10:20:10,14,15', '9223372036854775806:9223372036854775807:']),
  of('oid', ['0', '4294967295']),
  of('xid', ['0', '4294967295']),
  of('xid8', ['0', '18446744073709551615']),
  of('cid', ['0', '4294967295']),
  of('tid', ['(0,0)', '(4294967295,65535)']),
  of('oidvector', ['', '1 4294967295']),
  of('int2vector', ['', '-32768 0 7']),
  of('refcursor', ['', '<unnamed portal 1>']),
  of('int4range', ['empty', '(,)', '[1,5)', '[-2147483648,2147483647)']),
  of('int8range', ['empty', '(,-5)', '[9007199254740993,)']),
  of('numrange', ['empty', '(,)', '[1.50,2.000]', '(-Infinity,Infinity]', '[NaN,)']),
  of('tsrange', [
    'empty',
    '[-infinity,infinity]',
    '("0044-03-15 00:00:00 BC","294276-12-31 23:59:59.999999"]',
  ]),
  of('tstzrange', ['empty', '(,infinity)', '["2024-10-27 02:30:00+02","2024-10-27 02:30:00+01"]']),
  of('daterange', ['empty', '[2024-02-29,2024-03-01)', '[-infinity,infinity]']),
  of('int4multirange', ['{}', '{(,)}', '{[1,3),[5,9)}']),
  of('int8multirange', ['{}', '{[9007199254740993,9007199254740994)}']),
  of('nummultirange', ['{}', '{[1.0,1.50],(2,3)}']),
  of('tsmultirange', ['{}', '{["2024-01-01 00:00:00","2024-01-02 00:00:00"),[infinity,infinity]}']),
  of('tstzmultirange', ['{}', '{(,"2024-01-01 00:00:00+00")}']),
  of('datemultirange', ['{}', '{[2024-01-01,2024-01-02),[2024-02-01,)}']),
  domain('cardinal_number', ['0', '2147483647']),
  domain('character_data', ['a b', '']),
  domain('sql_identifier', ['x']),
  domain('time_stamp', ['2024-02-29 01:02:03.45+00']),
  domain('yes_or_no', ['YES', 'NO']),
];

/** Types that no column of ours holds, each with its reason. Their arrays stand with them. */
export const EXCLUDED: Readonly<Record<string, string>> = {
  'pg_catalog.pg_node_tree': 'the server refuses input',
  'pg_catalog.pg_ndistinct': 'the server refuses input',
  'pg_catalog.pg_dependencies': 'the server refuses input',
  'pg_catalog.pg_mcv_list': 'the server refuses input',
  'pg_catalog.pg_brin_bloom_summary': 'the server refuses input',
  'pg_catalog.pg_brin_minmax_multi_summary': 'the server refuses input',
  'pg_catalog.gtsvector': 'the server refuses input',
  'pg_catalog.aclitem': 'names roles of its server',
  'pg_catalog.regproc': 'means an object of its database',
  'pg_catalog.regprocedure': 'means an object of its database',
  'pg_catalog.regoper': 'means an object of its database',
  'pg_catalog.regoperator': 'means an object of its database',
  'pg_catalog.regclass': 'means an object of its database',
  'pg_catalog.regcollation': 'means an object of its database',
  'pg_catalog.regtype': 'means an object of its database',
  'pg_catalog.regrole': 'means a role of its server',
  'pg_catalog.regnamespace': 'means an object of its database',
  'pg_catalog.regconfig': 'means an object of its database',
  'pg_catalog.regdictionary': 'means an object of its database',
};

/** Types that a database makes for itself; the same statements run on both sides. */
export const MADE_TYPES = `
CREATE SCHEMA made; CREATE SCHEMA "We ird";
CREATE TYPE made.mood AS ENUM ('sad', 'o''k', 'very "happy", really', 'ünï');
CREATE TYPE "We ird"."Ty ""pe" AS ENUM ('A', 'a');
CREATE DOMAIN made.positive AS int CHECK (VALUE > 0);
CREATE DOMAIN made.small AS made.positive CHECK (VALUE < 100);
CREATE DOMAIN made.tags AS text[] CHECK (cardinality(VALUE) < 10);
CREATE DOMAIN made.code AS varchar(4) COLLATE "C";
CREATE TYPE made.pair AS (a int, b text, c numeric[], d made.mood);
CREATE TYPE made.nest AS (p made.pair, q made.pair[], r made.tags, "S p" bytea);
CREATE DOMAIN made.good_pair AS made.pair CHECK ((VALUE).a IS DISTINCT FROM 0);
CREATE TYPE made.textrange AS RANGE (subtype = text, multirange_type_name = made.textmultirange);
CREATE TYPE made.moodrange AS RANGE (subtype = made.mood, multirange_type_name = made.moodmultirange);
`;

const PAIRS = ['(,,,)', '(1,"a,b(\\"c\\\\","{1.0,NaN,NULL}",sad)', '(-5,"","{}","very ""happy"", really")'];
const made = (type: string, values: readonly string[]): TypeColumn => ({ type, covers: type, values });

export const MADE_COLUMNS: readonly TypeColumn[] = [
  made('made.mood', ['sad', `o'k`, 'very "happy", really', 'ünï']),
  made('"We ird"."Ty ""pe"', ['A', 'a']),
  made('made.positive', ['1', '2147483647']),
  made('made.small', ['99']),
  made('made.tags', ['{}', '{a,NULL,"b,\\"c"}', '[5:6]={x,y}']),
  made('made.code', ['', 'ab ', 'é']),
  made('made.pair', PAIRS),
  made('made.nest', ['(,,,)', '("(1,b,{2},sad)","{""(3,,,)"",NULL}","{t}","\\\\x00ff")']),
  made('made.good_pair', PAIRS.slice(1)),
  made('made.textrange', ['empty', '["a,b","c""d")', '(,)', '["",z]']),
  made('made.textmultirange', ['{}', '{[a,b),["c d","e"]}']),
  made('made.moodrange', ['[sad,ünï]', 'empty']),
  made('made.moodmultirange', [`{[sad,"o'k"),["very \\"happy\\", really",ünï]}`]),
];
