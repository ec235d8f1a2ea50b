import type { RowRun } from '../../src/core/change.ts';
import type { TablePlan } from '../../src/core/plan.ts';
import type { Column, Relation, Tuple } from '../../src/core/table.ts';
import { compileMapping } from '../../src/transform/compile.ts';
import { mappingSchema } from '../../src/transform/spec.ts';

const column = (name: string, type: string, kind: Column['kind']): Column => ({
  name,
  type,
  kind,
  nullable: false,
  generated: false,
  hasDefault: false,
  exact: kind !== 'decimal',
  mayBeUnchanged: kind === 'text',
});

const relation = (schema: string, name: string, columns: readonly Column[]): Relation => ({
  table: { schema, name },
  columns,
  key: [0],
  identity: 'key',
  version: '1',
});

export const BLUE = relation('public', 'customers', [
  column('id', 'integer', 'integer'),
  column('full_name', 'text', 'text'),
  column('email', 'text', 'text'),
  column('balance', 'numeric(12,2)', 'decimal'),
  column('status', 'smallint', 'integer'),
  column('note', 'text', 'text'),
  column('created_at', 'timestamp with time zone', 'timestamptz'),
]);

const GREEN = relation('shop', 'client', [
  column('id', 'bigint', 'integer'),
  column('first_name', 'text', 'text'),
  column('last_name', 'text', 'text'),
  column('email', 'text', 'text'),
  column('balance_cents', 'bigint', 'integer'),
  column('status', 'text', 'text'),
  column('note', 'text', 'text'),
  column('created_at', 'timestamp with time zone', 'timestamptz'),
]);

/** The mapping of the demo's customers. */
export function plan(): TablePlan {
  const spec = mappingSchema.parse([
    {
      from: 'public.customers',
      to: [
        {
          table: 'shop.client',
          columns: {
            id: { from: 'id', cast: 'bigint' },
            first_name: { from: 'full_name', op: 'split', by: ' ', take: 'first' },
            last_name: { from: 'full_name', op: 'split', by: ' ', take: 'rest' },
            email: { from: 'email', op: ['trim', 'lower'] },
            balance_cents: { from: 'balance', op: 'scale', factor: 100, cast: 'bigint' },
            status: {
              from: 'status',
              op: 'map',
              values: { 0: 'prospect', 1: 'active', 2: 'suspended', 3: 'closed' },
              on_unmapped: 'fail',
            },
            note: 'copy',
            created_at: 'copy',
          },
        },
      ],
    },
  ]);
  const compiled = compileMapping({
    spec,
    tables: [BLUE.table],
    source: () => BLUE,
    target: () => GREEN,
    modules: new Map(),
  });
  return compiled.plans[0] as TablePlan;
}

/** `keys`: how many different ones. */
export const tuples = (rows: number, keys: number): Tuple[] =>
  Array.from({ length: rows }, (_, i) => [
    String((i * 7919) % keys),
    `First${i} Last Name`,
    `user${i}@example.org`,
    `${i}.25`,
    String(i % 4),
    `a note with a "quote" and a tab\t${i}`,
    '2026-01-01 00:00:00+00',
  ]);

export const runOf = (op: 'insert' | 'update', rows: readonly Tuple[]): RowRun => ({
  relation: BLUE,
  op,
  after: rows,
  before: rows.map(() => null),
});
