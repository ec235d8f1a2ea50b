import { BSON } from 'mongodb';
import { describe, expect, it, test } from 'vitest';

import type { RowRun } from '../../src/core/change.ts';
import { VerdigrisError } from '../../src/core/errors.ts';
import { UNCHANGED, type Cell, type Relation, type TableName, type Tuple } from '../../src/core/table.ts';
import { DOCUMENT, DocumentDelta, relationOf } from '../../src/engines/mongodb/document.ts';
import { rowOfDocument } from '../../src/engines/mongodb/shape.ts';
import { compileMapping, type CompiledMapping } from '../../src/transform/compile.ts';
import type { MappingIssue } from '../../src/transform/issue.ts';
import { compileReverse, type ReverseMapping } from '../../src/transform/reverse.ts';
import { mappingSchema, moduleKey } from '../../src/transform/spec.ts';

type Fields = Readonly<Record<string, unknown>>;

const { Decimal128, Double, Int32, Long, ObjectId } = BSON;
const items: TableName = { schema: 'shop', name: 'items' };
const id = new ObjectId('0123456789abcdef01234567');

/** Bytes with the fields in the order they are written in. */
const bytes = (fields: Fields | readonly (readonly [string, unknown])[]): Buffer =>
  Buffer.from(BSON.serialize(new Map(Array.isArray(fields) ? fields : Object.entries(fields))));

const modules = new Map([
  [moduleKey('./shop.ts', 'initials'), (name: unknown) => String(name).replace(/[^A-Z]/g, '')],
]);

/** A second collection on green. */
const others: TableName = { schema: 'shop', name: 'others' };

function compile(
  entry: object,
  images = true,
): { mapping: CompiledMapping; spec: object[]; green: Relation } {
  const blue = relationOf(items, 'b', images);
  const green = relationOf(items, 'g', images);
  const spec = [{ from: 'shop.items', ...entry }];
  const mapping = compileMapping({
    spec: mappingSchema.parse(spec),
    tables: [items],
    source: () => blue,
    target: (table) => (table.name === items.name ? green : relationOf(others, 'g', images)),
    modules,
  });
  return { mapping, spec, green };
}

const to = (target: object): object => ({ to: [{ table: 'shop.items', ...target }] });

function issuesOf(entry: object): string[] {
  try {
    compile(entry);
  } catch (error) {
    const found = (error as VerdigrisError).context['issues'] as readonly MappingIssue[];
    return found.map(({ path, message }) => `${path.slice(2).join('.')}: ${message}`);
  }
  return [];
}

const inserted = ({ from }: { from: Relation }, document: Buffer): RowRun => ({
  relation: from,
  op: 'insert',
  after: [rowOfDocument(document)],
  before: [null],
});

/** Green's document as the shell would show it, or why it was refused. */
function mapped(target: object, document: Fields | readonly (readonly [string, unknown])[] | Buffer): string {
  const { mapping } = compile(to(target));
  const [plan] = mapping.plans;
  if (plan === undefined) throw new Error('no plan');
  const source = Buffer.isBuffer(document) ? document : bytes(document);
  try {
    const { runs, rejects } = plan.run(inserted(plan, source));
    const row = runs[0]?.after[0];
    if (row === undefined) return `rejected: ${rejects[0]?.reason}`;
    expect(row[0]).toBe(rowOfDocument(source)[0]);
    return shown(row);
  } catch (error) {
    if (error instanceof VerdigrisError) return `${error.code}: ${String(error.context['reason'])}`;
    throw error;
  }
}

const shown = (row: Tuple): string => text(row[DOCUMENT] as Uint8Array);

const text = (document: Uint8Array): string =>
  BSON.EJSON.stringify(BSON.deserialize(document, { promoteValues: false, bsonRegExp: true }), {
    relaxed: false,
  });

const like = (fields: Fields | readonly (readonly [string, unknown])[]): string => text(bytes(fields));

const copy = { '*': 'copy' };

describe('paths of documents', () => {
  it('takes documents over untouched where nothing is named', () => {
    const { mapping } = compile(to({ columns: copy }));
    expect(mapping.plans[0]?.passthrough).not.toBeNull();
    expect(mapping.needsFullImages).toEqual([]);
  });

  it('renames in place, moves into parents that it makes, and out of them', () => {
    expect(mapped({ columns: { ...copy, n: { from: 'name' } } }, { _id: 1, name: 'a', z: 2 })).toBe(
      like({ _id: 1, n: 'a', z: 2 }),
    );
    expect(
      mapped(
        { columns: { ...copy, 'customer.name': { from: 'name' }, 'customer.mail': { from: 'mail' } } },
        { _id: 1, name: 'a', z: 2, mail: 'm' },
      ),
    ).toBe(
      like({
        _id: 1,
        z: 2,
        customer: new Map([
          ['name', 'a'],
          ['mail', 'm'],
        ]),
      }),
    );
    expect(
      mapped(
        { columns: { ...copy, city: { from: 'a.b.city' } } },
        { _id: 1, a: { b: { city: 'x', q: 1 } }, z: 1 },
      ),
    ).toBe(like({ _id: 1, a: { b: { q: 1 } }, z: 1, city: 'x' }));
    expect(
      mapped({ columns: { ...copy, 'a.c': { from: 'a.b' } } }, { _id: 1, a: { x: 1, b: 2, y: 3 } }),
    ).toBe(like({ _id: 1, a: { x: 1, c: 2, y: 3 } }));
    expect(mapped({ columns: { ...copy, 'a.b': { from: 'a' } } }, { _id: 1, a: 5, z: 1 })).toBe(
      like({ _id: 1, a: { b: 5 }, z: 1 }),
    );
  });

  it('puts what goes into a document that is there at its end', () => {
    const columns = { ...copy, 'customer.name': { from: 'name' } };
    expect(mapped({ columns }, { _id: 1, name: 'a', customer: { vip: true }, z: 1 })).toBe(
      like({ _id: 1, customer: { vip: true, name: 'a' }, z: 1 }),
    );
  });

  it('copies where the field is also named, and keeps only what is named without "*"', () => {
    expect(mapped({ columns: { ...copy, a: 'copy', b: { from: 'a' } } }, { _id: 1, a: 5 })).toBe(
      like({ _id: 1, a: 5, b: 5 }),
    );
    expect(
      mapped(
        { columns: { x: { from: 'a.b' }, 'p.q': 'copy' } },
        { z: 1, p: { q: 2, r: 3 }, _id: 1, a: { b: 4 } },
      ),
    ).toBe(like({ _id: 1, x: 4, p: { q: 2 } }));
    expect(mapped({ columns: { ...copy, 'ref.id': { from: '_id' } } }, { _id: id })).toBe(
      like({ _id: id, ref: { id } }),
    );
  });

  it('drops fields', () => {
    expect(mapped({ columns: copy, drop: ['a.b', 'c'] }, { _id: 1, a: { b: 1, d: 2 }, c: 3 })).toBe(
      like({ _id: 1, a: { d: 2 } }),
    );
    expect(mapped({ columns: copy, drop: ['a.b'] }, { _id: 1, a: { b: 1 } })).toBe(like({ _id: 1 }));
    expect(mapped({ columns: copy, drop: ['a.b'] }, { _id: 1, a: {} })).toBe(like({ _id: 1, a: {} }));
    expect(mapped({ drop: ['a'] }, { _id: 1, a: { b: 1 }, c: 3 })).toBe(like({ _id: 1, c: 3 }));
  });

  it('leaves out what is not there, and keeps null as null', () => {
    const columns = { ...copy, 'x.y': { from: 'a.b' } };
    expect(mapped({ columns }, { _id: 1 })).toBe(like({ _id: 1 }));
    expect(mapped({ columns }, { _id: 1, a: null })).toBe(like({ _id: 1, a: null }));
    expect(mapped({ columns }, { _id: 1, a: 'text' })).toBe(like({ _id: 1, a: 'text' }));
    expect(mapped({ columns }, { _id: 1, a: { b: null } })).toBe(like({ _id: 1, x: { y: null } }));
  });

  it('refuses an array on the way, a parent that is no document, names that are there twice, and what would be overwritten', () => {
    const columns = { ...copy, 'x.y': { from: 'a.b' } };
    expect(mapped({ columns }, { _id: 1, a: [{ b: 1 }] })).toBe(
      'MAPPING_VALUE: x.y has an array on the way (a)',
    );
    expect(mapped({ columns }, { _id: 1, a: { b: 1 }, x: [] })).toContain('has an array on the way (x)');
    expect(mapped({ columns }, { _id: 1, a: { b: 1 }, x: null })).toContain(
      'into something that is no document (x)',
    );
    expect(
      mapped({ columns }, [
        ['_id', 1],
        ['a', { b: 1 }],
        ['x', { y: 2 }],
      ]),
    ).toContain('a value of its own at x.y');
    expect(mapped({ columns: copy, drop: ['l.secret'] }, { _id: 1, l: [{ secret: 1 }] })).toContain(
      'an array on the way (l)',
    );
    const reject = { ...copy, 'x.y': { from: 'a.b', on_error: 'reject' } };
    expect(mapped({ columns: reject }, { _id: 1, a: [1] })).toBe('rejected: x.y has an array on the way (a)');
  });

  it('takes names with dots, dollars and digits for what they are', () => {
    const target = { columns: { ...copy, 'a\\.b': { from: '$x' }, '7.$y': { from: 'p\\.q.r' } } };
    const { mapping } = compile(to(target));
    const [plan] = mapping.plans;
    const before = bytes([
      ['9', 'n'],
      ['1', 'm'],
      ['_id', 1],
      ['$x', 5],
      ['p.q', { r: 6 }],
      ['a', { b: 7 }],
      ['__proto__', 1],
    ]);
    const after = plan?.run(inserted(plan, before)).runs[0]?.after[0]?.[DOCUMENT] as Buffer;
    const wanted = bytes([
      ['9', 'n'],
      ['1', 'm'],
      ['_id', 1],
      ['a.b', 5],
      ['a', { b: 7 }],
      ['__proto__', 1],
      ['7', new Map([['$y', 6]])],
    ]);
    expect(after.toString('latin1')).toBe(wanted.toString('latin1'));
  });

  it('passes on what is not named to the byte: order, repeated names, numbers of every kind', () => {
    // { b: 1, b: 2, n: NumberInt(1) } with a name that is there twice.
    const odd = encodeTwice();
    const { mapping } = compile(to({ columns: { ...copy, m: { from: 'n' } } }));
    const [plan] = mapping.plans;
    const after = plan?.run(inserted(plan, odd)).runs[0]?.after[0]?.[DOCUMENT] as Buffer;
    expect(after.toString('latin1')).toBe(odd.toString('latin1').replace('n\0', 'm\0'));
    expect(mapped({ columns: { ...copy, m: { from: 'b' } } }, odd)).toContain('is there twice (b)');
  });
});

function encodeTwice(): Buffer {
  const document = bytes([
    ['_id', 1],
    ['b', new Double(1)],
    ['c', Long.fromNumber(2)],
    ['n', new Int32(1)],
  ]);
  document[document.indexOf('c\0', 0, 'latin1')] = 'b'.charCodeAt(0);
  return document;
}

describe('types of fields', () => {
  const cast = (type: string, value: unknown, more: object = {}): string =>
    mapped({ columns: { ...copy, v: { cast: type, ...more } } }, { _id: 1, a: 1, v: value, z: 1 });
  const as = (value: unknown): string => like({ _id: 1, a: 1, v: value, z: 1 });

  it('casts in place, exactly', () => {
    expect(cast('decimal', '12.50')).toBe(as(Decimal128.fromString('12.50')));
    expect(cast('Decimal', new Int32(7))).toBe(as(Decimal128.fromString('7')));
    expect(cast('decimal', new Double(0.1))).toBe(as(Decimal128.fromString('0.1')));
    expect(cast('string', id)).toBe(as('0123456789abcdef01234567'));
    expect(cast('objectId', '0123456789abcdef01234567')).toBe(as(id));
    expect(cast('string', Long.fromString('9007199254740993'))).toBe(as('9007199254740993'));
    expect(cast('long', '9007199254740993')).toBe(as(Long.fromString('9007199254740993')));
    expect(cast('int', new Double(5))).toBe(as(new Int32(5)));
    expect(cast('bool', 'true')).toBe(as(true));
    expect(cast('string', true)).toBe(as('true'));
    expect(cast('date', '2024-02-29T12:00:00.5Z')).toBe(as(new Date('2024-02-29T12:00:00.500Z')));
    expect(cast('string', new Date(1_709_208_000_500))).toBe(as('2024-02-29T12:00:00.500Z'));
    expect(cast('double', '1.5')).toBe(as(new Double(1.5)));
  });

  it('leaves values alone that have the type, null, and what is not there', () => {
    const precise = Decimal128.fromString('1E+3');
    expect(cast('decimal', precise)).toBe(as(precise));
    expect(cast('decimal', null)).toBe(as(null));
    expect(mapped({ columns: { ...copy, v: { cast: 'decimal' } } }, { _id: 1 })).toBe(like({ _id: 1 }));
    expect(mapped({ columns: { ...copy, v: { cast: 'int', default: 3 } } }, { _id: 1 })).toBe(
      like({ _id: 1, v: new Int32(3) }),
    );
  });

  it('refuses what does not fit, and says where', () => {
    expect(cast('decimal', 'twelve')).toBe('MAPPING_VALUE: v is not a number');
    expect(cast('int', '2147483648')).toMatch(/^MAPPING_VALUE: v is out of range/);
    expect(cast('long', '9223372036854775808')).toBe('MAPPING_VALUE: v does not fit a long');
    expect(cast('decimal', '1234567890123456789012345678901234567')).toBe(
      'MAPPING_VALUE: v does not fit a decimal',
    );
    expect(cast('objectId', 'xyz')).toMatch(/^MAPPING_VALUE: v is not 24/);
    expect(cast('string', { a: 1 })).toBe('MAPPING_VALUE: v is a document');
    expect(cast('string', [1])).toBe('MAPPING_VALUE: v is an array');
    expect(cast('decimal', 'twelve', { on_error: 'reject' })).toBe('rejected: v is not a number');
    expect(cast('decimal', 'twelve', { on_error: null })).toBe(as(null));
    expect(cast('decimal', [1], { on_error: { value: '0' } })).toBe(as(Decimal128.fromString('0')));
  });

  it('takes operations, constants and functions', () => {
    const columns = {
      ...copy,
      full: { op: 'concat', of: ['name.first', 'name.last'], with: ' ' },
      state: { from: 's', op: 'map', values: { A: 'active' } },
      version: { value: 2 },
      mark: { module: './shop.ts', export: 'initials', from: 'title' },
    };
    expect(
      mapped({ columns }, { _id: 1, name: { first: 'Ada', last: 'L', mid: 1 }, s: 'A', title: 'Big Sale' }),
    ).toBe(
      like({ _id: 1, name: { mid: 1 }, state: 'active', mark: 'BS', full: 'Ada L', version: new Int32(2) }),
    );
  });
});

describe('what a mapping of fields may not say', () => {
  it.each([
    [{ columns: { ...copy, _id: { from: 'no' } } }, 'to.0.columns._id: nothing takes over what _id is'],
    [{ columns: { ...copy, _id: { value: 1 } } }, 'to.0.columns._id: a key is made of what'],
    [{ columns: { ...copy, '_id.a': { from: 'a' } } }, 'to.0.columns._id.a: _id is made as a whole'],
    [{ key: { id: 'no' } }, 'to.0.key.id: the key of a collection is _id'],
    [{ columns: { ...copy, _id: { from: 'no' } }, key: { _id: 'nr' } }, 'to.0.key._id: columns makes _id'],
    [{ columns: copy, drop: ['_id.a'] }, 'to.0.drop.0: _id stays what it is'],
    [{ columns: { ...copy, 'a..b': 'copy' } }, 'has an empty name'],
    [{ columns: { ...copy, a: { from: 'b\\c' } } }, 'has a backslash'],
    [{ columns: { ...copy, a: { from: 'x' }, 'a.b': { from: 'y' } } }, 'a.b is inside a'],
    [{ columns: { ...copy, a: { from: 'a.b' } } }, 'cannot be made of what is inside it'],
    [{ columns: { ...copy, a: { cast: 'decimel' } } }, 'did you mean decimal?'],
    [{ columns: { ...copy, a: 'default' } }, 'no default of the server'],
    [{ columns: { a: 'copy' }, drop: ['b'] }, 'nothing is taken over'],
    [
      { columns: {}, explode: { array: 'a', as: 'x', ordinal: 'n' } },
      'to.0.explode.ordinal: the number is a part of the key: write _id.n',
    ],
    [
      { columns: copy, explode: { array: 'a', as: 'x', ordinal: '_id.n' } },
      'to.0.columns.*: name the fields of the children',
    ],
    [
      { key: { '_id.p': 'no' }, explode: { array: 'a', as: 'x', ordinal: '_id.n' } },
      "to.0.key: the parent's part of the key is _id of blue",
    ],
    [
      { columns: { '_id.x': { from: 'a' } }, explode: { array: 'a', as: 'x', ordinal: '_id.n' } },
      "to.0.columns._id.x: _id is made of the parent's and the number",
    ],
    [{ emit_when: 'row.a == null && row.a.b == 1' }, 'to.0.emit_when: reads row.a and row.a.b'],
  ])('%j', (target, message) => {
    expect(issuesOf(to(target)).join('\n')).toContain(message);
  });
});

function back(entry: object, document: Fields): string {
  const { mapping, spec, green } = compile(entry);
  const reverse = compileReverse({
    compiled: mapping,
    spec: mappingSchema.parse(spec),
    blueTarget: () => relationOf(items, 'b', true),
    greenSource: (table) => (table.name === items.name ? green : relationOf(others, 'g', true)),
    modules,
    misfits: 'keep',
  });
  if (reverse.impossible.length > 0)
    return `impossible: ${reverse.impossible.map(({ why }) => why).join('; ')}`;
  const [plan] = reverse.plans;
  if (plan === undefined) throw new Error('no plan');
  const { runs, rejects } = plan.run(inserted(plan, bytes(document)));
  return runs[0]?.after[0] === undefined ? `rejected: ${rejects[0]?.reason}` : shown(runs[0].after[0]);
}

describe('documents of two collections in one', () => {
  const merging = (owner: object, part: object, images = true) =>
    compileMapping({
      spec: mappingSchema.parse([
        { from: 'shop.items', to: [{ table: 'shop.items', ...owner }] },
        { from: 'shop.others', to: [{ table: 'shop.items', ...part }] },
      ]),
      tables: [items, others],
      source: (table) => relationOf(table, 'b', images),
      target: (table) => relationOf(table, 'g', true),
      modules,
    });

  test.each<[name: string, owner: object, part: object, issues: readonly string[]]>([
    [
      'nobody owns them',
      { columns: copy },
      { columns: copy },
      [
        'shop.items and shop.others feed shop.items: documents of several tables are put together by _id where one says owner: true and the others name the fields they give, and arrays and keys stay what they are; else give each a table of its own on green',
      ],
    ],
    [
      'two own them',
      { owner: true },
      { owner: true, columns: { a: 'copy' } },
      [
        'shop.items and shop.others feed shop.items: exactly one of them must say owner: true, the one whose rows make and end the rows of green',
      ],
    ],
    [
      'a part that gives everything',
      { owner: true },
      { columns: { '*': 'copy', a: 'copy' } },
      ['shop.others is a part of shop.items: name the fields that it gives, without "*"'],
    ],
    [
      'a part that names nothing',
      { owner: true },
      {},
      ['shop.others is a part of shop.items: name the fields that it gives, without "*"'],
    ],
    [
      'a part that gives the key alone',
      { owner: true },
      { columns: { _id: 'copy' } },
      ['shop.others feeds nothing of shop.items but the key'],
    ],
    [
      'a field that two give, one of them a part of it',
      { owner: true, columns: { '*': 'copy', 'a.x': { from: 'y' } } },
      { columns: { 'a.z': { from: 'z' } } },
      ['shop.items also makes a: a field of shop.items belongs to one table, with all that is inside it'],
    ],
    [
      'another key',
      { owner: true },
      { columns: { _id: { from: 'owner' }, a: 'copy' } },
      ['documents of several tables meet in shop.items by _id: it stays what it is in shop.others'],
    ],
  ])('%s: refused by name', (_, owner, part, messages) => {
    let issues: readonly MappingIssue[] = [];
    try {
      merging(owner, part);
    } catch (error) {
      issues = (error as VerdigrisError).context['issues'] as readonly MappingIssue[];
    }
    expect(issues.map(({ message }) => message)).toEqual(messages);
  });

  test('a part puts its fields in the order of the mapping, and nothing where it has none', () => {
    const { plans, units, needsFullImages } = merging(
      { owner: true },
      { columns: { b: 'copy', 'a.x': { from: 'x' } } },
    );
    expect(units.map(({ relations }) => relations.length)).toEqual([2]);
    expect(needsFullImages).toEqual([]);
    const part = plans[1] as (typeof plans)[number];
    const given = (fields: Fields): unknown => {
      const [run] = part.run(inserted(part, bytes(fields))).runs;
      expect(run?.op).toBe('put');
      const cell = run?.after[0]?.[2];
      return cell === null ? null : shown([null, cell as Uint8Array]);
    };
    expect(given({ _id: 1, x: 1, more: 2, b: 3 })).toBe(shown([null, bytes({ b: 3, a: { x: 1 } })]));
    expect(given({ _id: 1, more: 2 })).toBeNull();
  });

  test('all of them have to keep images', () => {
    const { needsFullImages } = merging({ owner: true }, { columns: { a: 'copy' } }, false);
    expect(needsFullImages.map(({ table }) => table.name)).toEqual(['items', 'others']);
  });

  const returning = (
    owner: object,
    part: object,
    entries: { readonly owner?: object; readonly part?: object } = {},
  ): ReverseMapping => {
    const spec = mappingSchema.parse([
      { from: 'shop.items', to: [{ table: 'shop.items', owner: true, ...owner }], ...entries.owner },
      { from: 'shop.others', to: [{ table: 'shop.items', ...part }], ...entries.part },
    ]);
    const compiled = compileMapping({
      spec,
      tables: [items, others],
      source: (table) => relationOf(table, 'b', true),
      target: (table) => relationOf(table, 'g', true),
      modules,
    });
    return compileReverse({
      compiled,
      spec,
      modules,
      blueTarget: (table) => relationOf(table, 'b', true),
      greenSource: (table) => relationOf(table, 'g', true),
      misfits: 'keep',
    });
  };

  test.each<[name: string, owner: object, part: object, entries: object, why: string]>([
    [
      'a field of the owner that is dropped',
      { drop: ['a'] },
      { columns: { a: 'copy' } },
      {},
      'shop.items.document: .*a: it is dropped',
    ],
    [
      'a field of a part that is another type',
      {},
      { columns: { a: { cast: 'string' } } },
      {},
      'shop.others.document: a: write under reverse: columns: how it comes back from a',
    ],
    [
      'a field from inside of another one',
      {},
      { columns: { a: { from: 'x.y' } } },
      {},
      'shop.others.document: x.y: it is inside of x, of which the rest is not on green',
    ],
    [
      'a field that stands for the document',
      {},
      { columns: { a: 'copy', is: { value: true } } },
      {},
      'shop.others.document: is: it is there where the document is, which then does not come back',
    ],
    [
      'a field that is the key again',
      {},
      { columns: { a: 'copy', of: { from: '_id' } } },
      {},
      'shop.others.document: of: it is there where the document is, which then does not come back',
    ],
    [
      'a part of which not every document is on green',
      {},
      { columns: { a: 'copy' }, emit_when: 'row.a != null' },
      {},
      'shop.others.document: emit_when cannot be asked of the fields that shop.items has of a document',
    ],
  ])('%s: no way back, with the reason', (_, owner, part, entries, why) => {
    const told = returning(owner, part, entries).impossible.map(
      (one) => `${one.table}.${one.column}: ${one.why}`,
    );
    expect(told.join('\n')).toMatch(new RegExp(why));
  });

  describe('on the way back', () => {
    const mapping = returning(
      { columns: { '*': 'copy', title: { from: 'name' } } },
      { columns: { bio: 'copy', 'plan.name': { from: 'tariff' }, sum: { from: 'cents', cast: 'string' } } },
      { part: { reverse: { columns: { cents: { from: 'sum', cast: 'int' } } } } },
    );
    const [plan] = mapping.plans;
    if (plan === undefined) throw new Error('no plan');
    const row = (fields: Fields): Tuple => rowOfDocument(bytes(fields));
    const told = (
      op: 'insert' | 'update' | 'delete',
      before: Fields | null,
      after: Fields | null,
    ): unknown => {
      const { runs, rejects } = plan.run({
        relation: plan.from,
        op,
        before: [before === null ? null : row(before)],
        after: after === null ? [] : [row(after)],
      });
      const cell = (value: Cell | undefined): unknown =>
        value instanceof Uint8Array ? shown([null, value]) : value === UNCHANGED ? 'unchanged' : value;
      return [
        ...runs.map((run) => [
          run.relation.table.name,
          run.op,
          ...(run.op === 'delete' ? [] : (run.after[0] ?? []).slice(1).map(cell)),
        ]),
        ...rejects.map(({ column, reason, stays }) => [column, reason, stays]),
      ];
    };
    const document = (fields: Fields): string => shown([null, bytes(fields)]);

    test('a document is one of the owner and fields of the part', () => {
      expect(mapping.impossible).toEqual([]);
      expect(
        told('insert', null, { _id: 1, title: 'n', bio: { x: 1 }, plan: { name: 't' }, sum: '5', more: 2 }),
      ).toEqual([
        ['items', 'insert', document({ _id: 1, name: 'n', more: 2 })],
        ['others', 'put', 'unchanged', document({ cents: new Int32(5), bio: { x: 1 }, tariff: 't' })],
      ]);
      expect(told('insert', null, { _id: 1, title: 'n' })).toEqual([
        ['items', 'insert', document({ _id: 1, name: 'n' })],
        ['others', 'put', 'unchanged', null],
      ]);
    });

    test('only the one is written of which something changed', () => {
      const before = { _id: 1, title: 'n', bio: 1, sum: '5' };
      expect(told('update', before, { ...before, title: 'm' })).toEqual([
        ['items', 'update', document({ _id: 1, name: 'm' })],
      ]);
      expect(told('update', before, { ...before, bio: 2 })).toEqual([
        ['others', 'put', 'unchanged', document({ cents: new Int32(5), bio: 2 })],
      ]);
      expect(told('update', before, { _id: 1, title: 'n' })).toEqual([['others', 'put', 'unchanged', null]]);
      expect(told('delete', before, null)).toEqual([
        ['items', 'delete'],
        ['others', 'put', 'unchanged', null],
      ]);
    });

    test('what blue has no place for stays out of date there', () => {
      const before = { _id: 1, title: 'n', plan: { name: 't' } };
      expect(told('update', before, { ...before, plan: { name: 't', more: 1 } })).toMatchObject([
        ['cents, bio, tariff', expect.stringContaining('would be another value'), true],
      ]);
      expect(told('update', before, { ...before, sum: 'x' })).toMatchObject([
        ['cents, bio, tariff', expect.any(String), true],
      ]);
    });

    test('both are compared, the part without what only blue has', () => {
      const [own, part] = mapping.comparables;
      expect(own?.columns).toEqual([0, 1]);
      expect(part?.columns).toEqual([0, 2]);
      expect(part?.notCompared).toMatchObject([{ column: 'document' }]);
      expect(part?.ignores?.(['1', bytes({ _id: 1, seen: 2 }), null])).toBe(true);
      expect(part?.mayHaveMore).toContain('without one of the table that makes the rows of shop.items');
    });
  });

  test("an owner's document that has a field of a part is a value that does not fit", () => {
    const { plans } = merging({ owner: true }, { columns: { a: 'copy' } });
    const owner = plans[0] as (typeof plans)[number];
    expect(() => owner.run(inserted(owner, bytes({ _id: 1, a: 2 })))).toThrow(/drop: \[a\]/);
    const dropped = merging({ owner: true, drop: ['a'] }, { columns: { a: 'copy' } }).plans[0];
    if (dropped === undefined) throw new Error('no plan');
    expect(dropped.run(inserted(dropped, bytes({ _id: 1, a: 2 }))).rejects).toEqual([]);
  });
});

describe('another _id', () => {
  const numbered = to({ columns: { ...copy, _id: { from: 'no' }, old: { from: '_id' } } });

  const keyed = (target: object, document: Fields): string => {
    const [plan] = compile(to(target)).mapping.plans;
    if (plan === undefined) throw new Error('no plan');
    try {
      return String(plan.run(inserted(plan, bytes(document))).runs[0]?.after[0]?.[0]);
    } catch (error) {
      return String((error as VerdigrisError).context['reason']);
    }
  };

  it('is the key and stands in the document', () => {
    expect(keyed({ columns: { ...copy, _id: { cast: 'string' } } }, { _id: id })).toBe(
      '"0123456789abcdef01234567"',
    );
    expect(keyed({ key: { _id: 'no' }, drop: ['_id'] }, { _id: id, no: 'a' })).toBe('"a"');
    expect(keyed({ columns: { _id: { from: 'no' }, n: 'copy' } }, { _id: 1, n: 2 })).toBe('has no _id');
    expect(keyed({ columns: { _id: { from: 'no' }, n: 'copy' } }, { _id: 1, no: [1] })).toBe(
      'has an _id that is an array',
    );
  });

  it('moves with what it is made of, and is found by the document before', () => {
    const [plan] = compile(numbered).mapping.plans;
    if (plan === undefined) throw new Error('no plan');
    const row = (no: string): Tuple => rowOfDocument(bytes({ _id: 7, no, z: 1 }));
    const run = (op: 'update' | 'delete', before: string, after?: string): readonly RowRun[] =>
      plan.run({
        relation: plan.from,
        op,
        before: [row(before)],
        after: after === undefined ? [] : [row(after)],
      }).runs;
    expect(run('update', 'a', 'b')).toMatchObject([
      { op: 'update', after: [['"b"', bytes({ _id: 'b', old: 7, z: 1 })]], before: [['"a"', UNCHANGED]] },
    ]);
    expect(run('update', 'a', 'a')).toMatchObject([{ op: 'update', before: [null] }]);
    expect(run('delete', 'a')).toMatchObject([{ op: 'delete', before: [['"a"', UNCHANGED]] }]);
    expect(compile(numbered).mapping.targets[0]).toMatchObject({ scattered: true });
  });

  it('comes back where green keeps what blue had', () => {
    expect(back(numbered, { _id: 'a', old: 7, z: 1 })).toBe(like({ _id: 7, no: 'a', z: 1 }));
    expect(back(to({ key: { _id: 'no' }, drop: ['_id'] }), { _id: 'a' })).toMatch(/^impossible: .*_id/);
    const text = to({ columns: { ...copy, _id: { cast: 'string' } } });
    expect(back(text, { _id: 'a' })).toMatch(/^impossible: .*_id: write under reverse/);
    const both = { ...text, reverse: { columns: { _id: { cast: 'objectid' } } } };
    expect(back(both, { _id: '0123456789abcdef01234567' })).toBe(like({ _id: id }));
    expect(back(both, { _id: 'a' })).toMatch(/^rejected: /);
  });
});

describe('an array that becomes a collection', () => {
  const children = {
    table: 'shop.others',
    explode: { array: 'l', as: 'x', ordinal: '_id.no' },
    key: { '_id.of': '_id' },
    columns: { a: { from: 'x.a' }, z: 'copy', all: { from: 'x' }, of: { from: '_id' } },
  };
  const whole = { table: 'shop.items' };

  const made = (entry: object, document: Fields): RowRun | undefined => {
    const [plan] = compile(entry).mapping.plans;
    return plan?.run(inserted(plan, bytes(document))).runs.find(({ op }) => op === 'replace');
  };

  it('makes a document of each element, of the element and of its parent', () => {
    const run = made({ to: [children] }, { _id: id, z: 1, l: [{ a: 1 }, 'two'] });
    expect(run?.before).toEqual([[`{"$oid":"${String(id)}"}`, UNCHANGED, UNCHANGED]]);
    expect(run?.after.map(([parent, number]) => [parent, number])).toEqual([
      [`{"$oid":"${String(id)}"}`, '1'],
      [`{"$oid":"${String(id)}"}`, '2'],
    ]);
    expect(run?.after.map((row) => Buffer.from(row[2] as Uint8Array).toString('latin1'))).toEqual(
      [
        { _id: { of: id, no: 1 }, a: 1, z: 1, all: { a: 1 }, of: id },
        { _id: { of: id, no: 2 }, z: 1, all: 'two', of: id },
      ].map((one) => bytes(one).toString('latin1')),
    );
  });

  it('has none where there is no array, and refuses what is none', () => {
    expect(made({ to: [children] }, { _id: 1 })?.after).toEqual([]);
    expect(made({ to: [children] }, { _id: 1, l: null })?.after).toEqual([]);
    expect(() => made({ to: [children] }, { _id: 1, l: 5 })).toThrow(/l is not an array/);
  });

  it('comes back with the document that has it, and not from its elements', () => {
    expect(back({ to: [whole, children] }, { _id: 1, l: [1] })).toBe(like({ _id: 1, l: [1] }));
    expect(back({ to: [{ ...whole, drop: ['l'] }, children] }, { _id: 1 })).toMatch(
      /^impossible: .*the elements in shop.others are not put together/,
    );
    expect(back({ to: [children] }, { _id: 1 })).toMatch(/^impossible: no green table holds every row/);
  });
});

describe('changes and the way back', () => {
  const renamed = to({ columns: { ...copy, 'customer.name': { from: 'name' }, n: { from: 'm' } } });

  it('asks for whole documents, and refuses a part of one', () => {
    const { mapping } = compile(renamed, false);
    expect(mapping.needsFullImages).toEqual([
      { table: items, why: expect.stringContaining('fields of shop.items are mapped') as string },
    ]);
    const [plan] = mapping.plans;
    if (plan === undefined) throw new Error('no plan');
    const part = new DocumentDelta(null, [bytes({ u: { name: 'b' } })]);
    const run: RowRun = { relation: plan.from, op: 'update', after: [['1', part]], before: [null] };
    expect(() => plan.run(run)).toThrowError(expect.objectContaining({ code: 'SCHEMA_UNSUPPORTED' }));
  });

  it('moves back what was moved', () => {
    expect(back(renamed, { _id: 1, n: 5, z: 1, customer: { name: 'a', vip: true } })).toBe(
      like({ _id: 1, m: 5, z: 1, customer: { vip: true }, name: 'a' }),
    );
  });

  it('does not count the order of fields where the way back does not keep it, and counts it where it does', () => {
    const { mapping } = compile(renamed);
    const [canonical] = [mapping.comparables[0]?.canonical[DOCUMENT]];
    expect(canonical?.(bytes({ _id: 1, a: { x: 1, y: 2 } }))).toBe(
      canonical?.(bytes({ a: { y: 2, x: 1 }, _id: 1 })),
    );
    expect(canonical?.(bytes({ _id: 1, a: 1 }))).not.toBe(canonical?.(bytes({ _id: 1, a: new Double(1) })));
    const inPlace = compile(to({ columns: { ...copy, n: { from: 'm' } } }));
    expect(inPlace.mapping.comparables[0]?.canonical[DOCUMENT]).toBeNull();
  });

  it('needs to be told what a field of another type was, and then takes constants off again', () => {
    const columns = { ...copy, total: { cast: 'decimal' }, v: { value: 1 } };
    expect(back(to({ columns }), { _id: 1, total: 1 })).toMatch(/^impossible: .*total: write under reverse/);
    const entry = { ...to({ columns }), reverse: { columns: { total: { cast: 'string' } } } };
    expect(back(entry, { _id: 1, total: Decimal128.fromString('1.50'), v: new Int32(1), z: 1 })).toBe(
      like({ _id: 1, total: '1.50', z: 1 }),
    );
    expect(back(entry, { _id: 1, total: Decimal128.fromString('1.5'), v: new Int32(2) })).toMatch(
      /^rejected: /,
    );
  });

  it('brings back what was wrapped, unless there is more in it by now', () => {
    const entry = to({ columns: { ...copy, 'a.b': { from: 'a' } } });
    expect(back(entry, { _id: 1, a: { b: 5 }, z: 1 })).toBe(like({ _id: 1, a: 5, z: 1 }));
    expect(back(entry, { _id: 1, a: { b: 5, c: 6 } })).toMatch(/^rejected: /);
    const torn = to({ columns: { ...copy, x: { from: 'a' }, y: { from: 'a.b' } } });
    expect(back(torn, { _id: 1 })).toMatch(/^impossible: .*a.b is inside a/);
  });

  it('feeds several collections, and comes back from the one that has every document, as a whole', () => {
    const second = { table: 'shop.others', columns: { a: 'copy' }, emit_when: 'row.a == 1' };
    const both = (first: object): object => ({ to: [{ table: 'shop.items', ...first }, second] });
    const { mapping } = compile(both({}));
    const [plan] = mapping.plans;
    if (plan === undefined) throw new Error('no plan');
    const found = plan.run(inserted(plan, bytes({ _id: 1, a: 1, b: 2 }))).runs;
    expect(found.map(({ relation, after }) => [relation.table.name, shown(after[0] as Tuple)])).toEqual([
      ['items', like({ _id: 1, a: 1, b: 2 })],
      ['others', like({ _id: 1, a: 1 })],
    ]);
    expect(plan.run(inserted(plan, bytes({ _id: 1, a: 2 }))).runs).toHaveLength(1);
    const renames = { columns: { ...copy, x: { from: 'b' } } };
    expect(back(both(renames), { _id: 1, a: 5, x: 2 })).toBe(like({ _id: 1, a: 5, b: 2 }));
    expect(back(both({ emit_when: 'row.a == 2' }), { _id: 1 })).toMatch(/^impossible: no green table holds/);
    expect(back(both({ columns: copy, drop: ['b'] }), { _id: 1 })).toMatch(/^impossible: .*b: it is dropped/);
    const whole = { ...second, columns: copy, emit_when: undefined };
    const torn = { to: [{ table: 'shop.items', columns: copy, drop: ['b'] }, whole] };
    expect(back(torn, { _id: 1 })).toMatch(/^impossible: /);
  });

  it('has no way back for what is dropped or not taken over', () => {
    expect(back(to({ columns: copy, drop: ['a'] }), { _id: 1 })).toMatch(/^impossible: .*a: it is dropped/);
    expect(back(to({ columns: { a: 'copy' } }), { _id: 1 })).toMatch(/^impossible: .*not name/);
  });
});
