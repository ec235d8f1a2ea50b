/** One thing that is wrong on green, and how verification has to name it. */
export interface Fault {
  readonly name: string;
  /** On green. */
  readonly sql: readonly string[];
  /** Of blue's rows that are hit: changes nothing that would mend the fault, if it comes before it. */
  readonly touch: readonly string[];
  /** `kind table key=value… (columns)`; empty: it is no difference. */
  readonly found: readonly string[];
  /** Rows without a key are named, not repaired. */
  readonly repaired: boolean;
}

/** Per table two changes after which a row of blue is what it was, and the stream has changed what it makes on green. */
const THERE_AND_BACK: Readonly<Record<string, readonly [string, string]>> = {
  account: ['note = note', 'note = note'],
  person: [
    `full_name = full_name || ' x', email = coalesce(email, '') || '.'`,
    `full_name = left(full_name, -2), email = nullif(left(email, -1), '')`,
  ],
  orders: [`items = items || '[{"sku": "t"}]'`, 'items = items - -1'],
  product: ['title = title', 'title = title'],
  stock: ['shelf = shelf', 'shelf = shelf'],
};

const touched = (table: string, ...ids: number[]): string[] =>
  (THERE_AND_BACK[table] ?? []).map(
    (change) =>
      `UPDATE public.${table} SET ${change} WHERE ${table === 'stock' ? 'product_id' : 'id'} IN (${ids.join(', ')})`,
  );

const one = (name: string, sql: string, touch: string | readonly string[], ...found: string[]): Fault => ({
  name,
  sql: [sql],
  touch: [touch].flat(),
  found,
  repaired: true,
});

export const FAULTS: readonly Fault[] = [
  one(
    'one byte flipped',
    `UPDATE shop.account SET name = 'namf 10' WHERE id = 10`,
    touched('account', 10),
    'different shop.account id=10 (name)',
  ),
  one(
    'a row dropped',
    'DELETE FROM shop.account WHERE id = 20',
    touched('account', 20),
    'missing shop.account id=20',
  ),
  {
    ...one(
      'a row added',
      `INSERT INTO shop.account (id, at, amount) VALUES (-21, now(), 1)`,
      `INSERT INTO public.account (id, at, amount) VALUES (-21, now(), 1)`,
      'extra shop.account id=-21',
    ),
    touch: [
      `INSERT INTO public.account (id, at, amount) VALUES (-21, now(), 1)`,
      'DELETE FROM public.account WHERE id = -21',
    ],
  },
  one(
    'two rows swapped',
    `UPDATE shop.account SET name = CASE id WHEN 30 THEN 'name 31' ELSE 'name 30' END WHERE id IN (30, 31)`,
    touched('account', 30, 31),
    'different shop.account id=30 (name)',
    'different shop.account id=31 (name)',
  ),
  one(
    'an empty string for a NULL',
    `UPDATE shop.account SET note = '' WHERE id = 40`,
    touched('account', 40),
    'different shop.account id=40 (note)',
  ),
  one(
    'a NULL for a text, reshaped',
    `UPDATE shop.person SET email = NULL WHERE id = 41`,
    touched('person', 41),
    'different shop.person id=41 (email)',
  ),
  one(
    'a trailing space',
    `UPDATE shop.account SET name = name || ' ' WHERE id = 50`,
    touched('account', 50),
    'different shop.account id=50 (name)',
  ),
  one(
    'a trailing space, reshaped',
    `UPDATE shop.person SET first = first || ' ' WHERE id = 51`,
    touched('person', 51),
    'different shop.person id=51 (first)',
  ),
  one(
    'the last microsecond',
    `UPDATE shop.account SET at = at + interval '1 microsecond' WHERE id = 60`,
    touched('account', 60),
    'different shop.account id=60 (at)',
  ),
  one(
    "a numeric's scale",
    `UPDATE shop.account SET amount = 70.1 WHERE id = 70`,
    touched('account', 70),
    'different shop.account id=70 (amount)',
  ),
  one(
    'one cent, reshaped',
    `UPDATE shop.person SET cents = cents + 1 WHERE id = 71`,
    touched('person', 71),
    'different shop.person id=71 (cents)',
  ),
  one(
    'JSON key order that matters (json)',
    `UPDATE shop.account SET raw = '{"b":2,"a":1}' WHERE id = 80`,
    touched('account', 80),
    'different shop.account id=80 (raw)',
  ),
  one(
    'JSON key order that matters, reshaped',
    `UPDATE shop.person SET raw = '{"b":2,"a":1}' WHERE id = 81`,
    touched('person', 81),
    'different shop.person id=81 (raw)',
  ),
  one(
    'JSON key order that does not matter (jsonb)',
    `UPDATE shop.account SET doc = '{"b": 2, "a": 1}' WHERE id = 85`,
    touched('account', 85),
  ),
  one(
    'an exploded child missing',
    'DELETE FROM shop.line WHERE order_id = 90 AND line_no = 1',
    touched('orders', 90),
    'missing shop.line order_id=90 line_no=1',
  ),
  one(
    'an exploded child too many',
    `INSERT INTO shop.line VALUES (91, 9, 'x')`,
    touched('orders', 91),
    'extra shop.line order_id=91 line_no=9',
  ),
  one(
    'an exploded child changed',
    `UPDATE shop.line SET sku = 'z' WHERE order_id = 92 AND line_no = 2`,
    touched('orders', 92),
    'different shop.line order_id=92 line_no=2 (sku)',
  ),
  one(
    'a merged row with a stale half',
    'UPDATE shop.product SET amount = amount - 1 WHERE id = 101',
    touched('stock', 101),
    'different shop.product id=101 (amount)',
  ),
  one(
    'a merged row with a half that is gone on blue',
    `UPDATE shop.product SET shelf = 'old' WHERE id = 105`,
    touched('product', 105),
    'different shop.product id=105 (shelf)',
  ),
  one(
    'a merged row missing',
    'DELETE FROM shop.product WHERE id = 106',
    touched('product', 106),
    'missing shop.product id=106',
  ),
  one(
    'a split row missing',
    'DELETE FROM shop.contact WHERE person = 110',
    touched('person', 110),
    'missing shop.contact person=110 kind=mail',
  ),
  one(
    'a split row too many',
    `INSERT INTO shop.contact VALUES (111, 'mail', 'x')`,
    touched('person', 111),
    'extra shop.contact person=111 kind=mail',
  ),
  one(
    'under a text key',
    `UPDATE shop.tag SET n = n + 1 WHERE name = 'Tag-120'`,
    `UPDATE public.tag SET n = n WHERE name = 'Tag-120'`,
    'different shop.tag name=Tag-120 (n)',
  ),
  {
    ...one(
      'without a key: a row too few',
      `DELETE FROM shop.log WHERE ctid IN (SELECT ctid FROM shop.log WHERE n = 13 AND what = 'line 13' LIMIT 1)`,
      `UPDATE public.log SET n = n WHERE n = 13`,
      'missing shop.log',
    ),
    repaired: false,
  },
  {
    ...one(
      'without a key: a row too many',
      `INSERT INTO shop.log VALUES (14, 'line 14')`,
      `UPDATE public.log SET n = n WHERE n = 14`,
      'extra shop.log',
    ),
    repaired: false,
  },
];

interface Named {
  readonly table: string;
  readonly kind: string;
  readonly key: Readonly<Record<string, string | null>>;
  readonly columns: readonly string[];
}

/** A difference as {@link Fault.found} spells it. */
export function spelled({ table, kind, key, columns }: Named): string {
  const cells = Object.entries(key)
    .filter(([name]) => name !== 'row hash')
    .map(([name, value]) => `${name}=${value}`);
  return [kind, table, ...cells, ...(columns.length === 0 ? [] : [`(${columns.join(', ')})`])].join(' ');
}
