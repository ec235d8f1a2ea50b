import { relation } from './tables.ts';

/** A shop before and after: every reshaping the mapping language has, in one place. */
export const blue = {
  customers: relation(
    'public.customers',
    {
      id: 'integer',
      full_name: 'text',
      email: 'text?',
      balance: 'numeric(12,2)',
      status: 'smallint',
      city: 'text?',
      legacy: ['text?', {}],
      created: 'timestamp without time zone',
    },
    ['id'],
    'full',
  ),
  products: relation('public.products', { id: 'integer', title: 'text', price: 'numeric(10,2)' }),
  stock: relation('public.stock', { product_id: 'integer', amount: 'integer', shelf: 'text?' }, [
    'product_id',
  ]),
  orders: relation(
    'public.orders',
    { id: 'integer', customer_id: 'integer', items: 'jsonb', note: 'text?' },
    ['id'],
    'full',
  ),
};

export const green = {
  customer: relation('crm.customer', {
    id: 'bigint',
    first_name: 'text',
    last_name: 'text?',
    email: 'text?',
    balance_cents: 'bigint',
    status: ['crm.customer_status', { labels: ['new', 'active', 'suspended', 'closed'] }],
    created_at: 'timestamp with time zone',
  }),
  address: relation('crm.customer_address', { customer_id: 'bigint', kind: 'text', city: 'text?' }, [
    'customer_id',
    'kind',
  ]),
  product: relation('crm.product', {
    id: 'bigint',
    title: 'text',
    price_cents: 'bigint',
    amount: ['integer', { nullable: false }],
    shelf: 'text?',
    added: ['timestamp with time zone', { hasDefault: true }],
  }),
  order: relation('crm.sales_order', { id: 'bigint', customer_id: 'bigint', note: 'text?' }),
  line: relation(
    'crm.order_line',
    { order_id: 'bigint', line_no: 'integer', sku: 'text', quantity: 'bigint', raw: 'jsonb' },
    ['order_id', 'line_no'],
  ),
};

export const mapping = [
  {
    from: 'public.customers',
    key: ['id'],
    to: [
      {
        table: 'crm.customer',
        key: { id: 'id' },
        columns: {
          id: { from: 'id', cast: 'bigint' },
          first_name: { from: 'full_name', op: 'split', by: ' ', take: 'first' },
          last_name: { from: 'full_name', op: 'split', by: ' ', take: 'rest' },
          email: { from: 'email', op: ['trim', 'lower'] },
          balance_cents: { from: 'balance', op: 'scale', factor: 100, cast: 'bigint', on_error: 'reject' },
          status: {
            from: 'status',
            op: 'map',
            values: { 0: 'new', 1: 'active', 2: 'suspended', 3: 'closed' },
            on_unmapped: 'reject',
          },
          created_at: { from: 'created', op: 'timezone', assume: 'Europe/Berlin', on_ambiguous: 'earlier' },
        },
        drop: ['legacy'],
      },
      {
        table: 'crm.customer_address',
        key: { customer_id: 'id', kind: { value: 'primary' } },
        emit_when: 'row.city != null',
        columns: {
          customer_id: { from: 'id', cast: 'bigint' },
          kind: { value: 'primary' },
          city: { op: 'trim' },
        },
      },
    ],
  },
  {
    from: 'public.products',
    to: [
      {
        table: 'crm.product',
        owner: true,
        columns: { id: 'copy', title: 'copy', price_cents: { from: 'price', op: 'scale', factor: 100 } },
      },
    ],
  },
  {
    from: 'public.stock',
    to: [
      {
        table: 'crm.product',
        key: { id: 'product_id' },
        columns: { id: { from: 'product_id' }, amount: { from: 'amount', absent: 0 }, shelf: 'copy' },
      },
    ],
  },
  {
    from: 'public.orders',
    to: [
      { table: 'crm.sales_order', columns: { '*': 'copy' } },
      {
        table: 'crm.order_line',
        key: { order_id: 'id' },
        explode: { array: 'items', as: 'item', ordinal: 'line_no' },
        columns: {
          order_id: { from: 'id' },
          sku: { from: 'item.sku' },
          quantity: { from: 'item', op: 'json_get', path: 'quantity', default: 1 },
          raw: { from: 'item' },
        },
      },
    ],
  },
];

export const shop = { blue: Object.values(blue), green: Object.values(green) };
