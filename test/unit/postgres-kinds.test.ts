import { describe, expect, it } from 'vitest';
import { kindOf, type TypeFacts } from '../../src/engines/postgres/kinds.ts';

const type = (name: string, more: Partial<TypeFacts> = {}): TypeFacts => ({
  name,
  builtin: true,
  category: 'b',
  over: null,
  array: false,
  notNull: false,
  labels: null,
  ...more,
});

const types = new Map<string, TypeFacts>([
  ['1', type('int4')],
  ['2', type('numeric')],
  ['3', type('text')],
  ['4', type('citext', { builtin: false })],
  ['5', type('d', { builtin: false, category: 'd', over: '2', notNull: true })],
  ['6', type('dd', { builtin: false, category: 'd', over: '5' })],
  ['7', type('_d', { builtin: false, over: '5', array: true })],
  ['8', type('int4range', { category: 'r', over: '1' })],
  ['9', type('nummultirange', { category: 'm', over: '2' })],
  ['10', type('mood', { builtin: false, category: 'e', labels: ['b', 'a'] })],
  ['11', type('pair', { builtin: false, category: 'c' })],
  ['12', type('int4', { builtin: false })],
  ['13', type('_int4', { array: true, over: '1' })],
  ['14', type('bpchar')],
  ['15', type('jsonb')],
  ['16', type('float8')],
  ['17', type('timetz')],
]);

describe('kinds of types', () => {
  it.each([
    ['1', 'integer', true],
    ['2', 'decimal', false],
    ['3', 'text', true],
    ['4', 'text', false],
    ['5', 'decimal', false],
    ['6', 'decimal', false],
    ['7', 'array', false],
    ['8', 'other', true],
    ['9', 'other', false],
    ['10', 'text', true],
    ['11', 'other', false],
    ['13', 'array', true],
    ['14', 'text', false],
    ['15', 'json', false],
    ['16', 'float', false],
    ['17', 'other', false],
    ['999', 'other', false],
  ])('type %s is %s, exact %s', (oid, kind, exact) => {
    expect(kindOf(oid, types, true)).toMatchObject({ kind, exact });
  });

  it('does not take a type for a built-in one because of its name', () => {
    expect(kindOf('12', types, true)).toMatchObject({ kind: 'other', exact: false });
  });

  it('hands on NOT NULL of a domain, also through a domain over it, and the labels of an enum in their order', () => {
    expect(kindOf('6', types, true).notNull).toBe(true);
    expect(kindOf('10', types, true).labels).toEqual(['b', 'a']);
  });

  it('is not exact under a collation that calls different texts equal', () => {
    expect(kindOf('3', types, false).exact).toBe(false);
    expect(kindOf('1', types, false).exact).toBe(true);
  });
});
