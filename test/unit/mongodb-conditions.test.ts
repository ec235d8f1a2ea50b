import { BSON } from 'mongodb';
import { describe, expect, it } from 'vitest';

import type { Tuple } from '../../src/core/table.ts';
import { documentFormat } from '../../src/engines/mongodb/document-format.ts';
import { DocumentDelta } from '../../src/engines/mongodb/document.ts';
import { BadValue } from '../../src/transform/bad-value.ts';
import { compileDocumentCondition } from '../../src/transform/document-condition.ts';

const { Decimal128, Double, Int32, Long, ObjectId } = BSON;

type Pairs = readonly (readonly [string, unknown])[];

const row = (pairs: Pairs): Tuple => ['1', Buffer.from(BSON.serialize(new Map(pairs)))];

function compile(text: string): ReturnType<typeof compileDocumentCondition> | string[] {
  const problems: string[] = [];
  const found = compileDocumentCondition(text, { index: 1, format: documentFormat }, (message) =>
    problems.push(message),
  );
  return problems.length > 0 ? problems : found;
}

/** True, false, or why not. */
function ask(text: string, pairs: Pairs): boolean | string {
  const condition = compile(text);
  if (condition === null || Array.isArray(condition)) throw new Error(String(condition));
  try {
    return condition.test(row(pairs));
  } catch (error) {
    if (error instanceof BadValue) return error.reason;
    throw error;
  }
}

describe('conditions over fields of documents', () => {
  it('compare numbers of every type by their value, and never a text with a number', () => {
    for (const one of [new Int32(7), Long.fromNumber(7), new Double(7), Decimal128.fromString('7.0')])
      expect(ask('row.tenant.id == 7', [['tenant', new Map([['id', one]])]])).toBe(true);
    expect(ask('row.n == 7', [['n', '7']])).toBe(false);
    const beyond = Long.fromBigInt(9_007_199_254_740_993n);
    expect(ask('row.n == 9007199254740992', [['n', beyond]])).toBe(false);
    expect(ask('row.n == 9007199254740993', [['n', beyond]])).toBe(true);
  });

  it('take what is not there, null and undefined for null, at every depth', () => {
    for (const pairs of [
      [],
      [['a', null]],
      [['a', 5]],
      [['a', new Map()]],
      [['a', new Map([['b', null]])]],
    ] as Pairs[])
      expect(ask('row.a.b == null', pairs)).toBe(true);
    // Of the document before nothing is left.
    const condition = compile('row.a.b == null');
    if (condition === null || Array.isArray(condition)) throw new Error('not compiled');
    expect(condition.test(row([['a', new Map([['b', 1]])]]))).toBe(false);
    expect(condition.test(row([]))).toBe(true);
  });

  it('read names with dots and dollars, text, dates, ids and booleans', () => {
    expect(ask('row["p.q"]["$x"] == "y"', [['p.q', new Map([['$x', 'y']])]])).toBe(true);
    expect(ask('row.at < "2026-06-01"', [['at', new Date('2026-05-31T23:00:00Z')]])).toBe(true);
    expect(
      ask('row._id == "0123456789abcdef01234567"', [['_id', new ObjectId('0123456789abcdef01234567')]]),
    ).toBe(true);
    expect(ask('row.no', [['no', false]])).toBe(false);
    expect(ask('row.name.startsWith("A")', [['name', 'Ada']])).toBe(true);
  });

  it('say of documents and arrays that they are there, and nothing else', () => {
    expect(ask('row.list != null', [['list', [1]]])).toBe(true);
    expect(ask('row.list == null', [['list', new Map()]])).toBe(false);
    expect(ask('size(row.list) == 0', [['list', []]])).toContain('cannot be evaluated');
    expect(ask('row.list[0] == 1', [['list', [1]]])).toContain('cannot be evaluated');
    expect(ask('row.list.x == 1', [['list', [1]]])).toContain('has an array on the way');
  });

  it('refuse what they could not tell', () => {
    expect(compile('row != null')).toEqual([expect.stringContaining('without naming a field')]);
    expect(compile('has(row.a)')).toEqual([expect.stringContaining('row.name != null')]);
    expect(compile('row.a != null && row.a.b == 1')).toEqual([expect.stringContaining('which is inside it')]);
    expect(compile('row.a +')).toEqual([expect.stringContaining('is not a CEL expression')]);
    const condition = compile('row.a == 1');
    if (condition === null || Array.isArray(condition)) throw new Error('not compiled');
    expect(() => condition.test(['1', new DocumentDelta(null, [])])).toThrow('a part of a document');
  });
});
