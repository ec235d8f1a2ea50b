import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { compile, relation } from './tables.ts';

/** The mapping that the documentation shows. */
const YAML = `
- from: public.customers
  key: [id]
  when: "row.deleted_at == null"
  to:
    - table: crm.customer
      key: { id: id }
      columns:
        id:            { from: id, cast: bigint }
        first_name:    { from: full_name, op: split, by: " ", take: first }
        last_name:     { from: full_name, op: split, by: " ", take: rest, empty: null }
        email:         { from: email, op: [trim, lower] }
        balance_cents: { from: balance, op: scale, factor: 100, cast: bigint, on_error: reject }
        status:
          from: status
          op: map
          values: { 0: new, 1: active, 2: suspended, 3: closed }
          on_unmapped: reject
        created_at:    { from: created, op: timezone, assume: Europe/Berlin, on_ambiguous: earlier }
        search_text:   { module: ./transforms/customer.ts, export: searchText }
    - table: crm.customer_address
      key: { customer_id: id, kind: { value: "primary" } }
      emit_when: "row.address_line1 != null || row.city != null"
      columns:
        customer_id:   { from: id, cast: bigint }
        kind:          { value: "primary" }
        line1:         { from: address_line1 }
        city:          { from: city, op: trim }
        country:       { from: country, op: upper, default: "DE" }
  reverse:
    join: crm.customer_address ON customer_id = id AND kind = 'primary'
    columns:
      full_name: { op: concat, of: [first_name, last_name], with: " ", skip_null: true }
      balance:   { from: balance_cents, op: scale, factor: 0.01 }
      status:    { from: status, op: unmap }
      created:   { from: created_at, op: timezone_strip, to: Europe/Berlin }
- from: public.orders
  to:
    - table: crm.sales_order
      columns:
        "*": copy
        id:          { from: id, cast: bigint }
        customer_id: { from: customer_id, cast: bigint }
        placed_at:   { from: order_date, cast: timestamptz, assume: UTC }
      drop: [legacy_flags]
- from: public.audit_*
  ignore: true
`;

const customers = relation(
  'public.customers',
  {
    id: 'integer',
    full_name: 'text',
    email: 'text?',
    balance: 'numeric(12,2)',
    status: 'smallint',
    created: 'timestamp without time zone',
    deleted_at: 'timestamp without time zone?',
    address_line1: 'text?',
    city: 'text?',
    country: 'character(2)?',
  },
  ['id'],
  'full',
);
const orders = relation('public.orders', {
  id: 'integer',
  customer_id: 'integer',
  order_date: 'date',
  note: 'text?',
  legacy_flags: 'integer',
});

test('the mapping of the documentation compiles and does what it says', () => {
  const compiled = compile(parse(YAML), {
    blue: [customers, orders, relation('public.audit_1', { id: 'integer' })],
    green: [
      relation('crm.customer', {
        id: 'bigint',
        first_name: 'text',
        last_name: 'text?',
        email: 'text?',
        balance_cents: 'bigint',
        status: ['crm.customer_status', { labels: ['new', 'active', 'suspended', 'closed'] }],
        created_at: 'timestamp with time zone',
        search_text: 'text',
      }),
      relation(
        'crm.customer_address',
        {
          customer_id: 'bigint',
          kind: 'text',
          line1: 'text?',
          city: 'text?',
          country: 'character varying(2)',
        },
        ['customer_id', 'kind'],
      ),
      relation('crm.sales_order', {
        id: 'bigint',
        customer_id: 'bigint',
        placed_at: 'timestamp with time zone',
        note: 'text?',
      }),
    ],
    modules: {
      './transforms/customer.ts#searchText': (row) =>
        String((row as { full_name: string }).full_name).toUpperCase(),
    },
  });
  const [customer, order] = compiled.plans;
  const row = ['7', 'Ann Lee ', null, '0.29', '3', '2024-10-27 02:30:00', null, null, ' Ulm', null];
  expect(
    customer
      ?.run({ relation: customers, op: 'insert', after: [row], before: [null] })
      .runs.map((run) => run.after),
  ).toEqual([
    [['7', 'Ann', 'Lee ', null, '29', 'closed', '2024-10-27 00:30:00+00', 'ANN LEE ']],
    [['7', 'primary', null, 'Ulm', 'DE']],
  ]);
  expect(
    order?.run({
      relation: orders,
      op: 'insert',
      after: [['1', '7', '2024-02-29', 'x', '0']],
      before: [null],
    }).runs[0]?.after,
  ).toEqual([['1', '7', '2024-02-29 00:00:00+00', 'x']]);
  expect(compiled.ignored.map((table) => table.name)).toEqual(['audit_1']);
  expect(compiled.needsFullImages).toEqual([]);
});
