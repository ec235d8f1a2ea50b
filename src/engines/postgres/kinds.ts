import type { Kind } from '../../core/table.ts';

/** What the catalog says about one type; references to other types are oids into the same map. */
export interface TypeFacts {
  readonly name: string;
  /** Lives in pg_catalog: its name means what the documentation says. */
  readonly builtin: boolean;
  /** pg_type.typtype: b base, c composite, d domain, e enum, p pseudo, r range, m multirange. */
  readonly category: string;
  /** Domain: the type it is over. Array: the element. Range and multirange: the subtype. */
  readonly over: string | null;
  readonly array: boolean;
  readonly notNull: boolean;
  readonly labels: readonly string[] | null;
}

/** What the rest of the program may know about a column's type. */
export interface KindFacts {
  readonly kind: Kind;
  /** Equal values always have equal text. */
  readonly exact: boolean;
  readonly labels: readonly string[] | null;
  /** pg_type.typname under all domains. */
  readonly base: string;
  /** A domain that refuses NULL. */
  readonly notNull: boolean;
}

const KINDS: Readonly<Record<string, Kind>> = {
  int2: 'integer',
  int4: 'integer',
  int8: 'integer',
  numeric: 'decimal',
  float4: 'float',
  float8: 'float',
  bool: 'boolean',
  text: 'text',
  varchar: 'text',
  bpchar: 'text',
  name: 'text',
  bytea: 'bytes',
  date: 'date',
  time: 'time',
  timestamp: 'timestamp',
  timestamptz: 'timestamptz',
  interval: 'interval',
  uuid: 'uuid',
  json: 'json',
  jsonb: 'json',
};

/**
 * Built-in types of which two equal values always print the same. Everything else is treated as if they may differ:
 * numeric (1.0 and 1.00), float (0 and -0), bpchar (padding), jsonb (numbers inside), interval (1 day and 24:00), geometric
 * types (equal within a tolerance), types of extensions.
 */
const EXACT = new Set([
  ...[
    'int2',
    'int4',
    'int8',
    'bool',
    'text',
    'varchar',
    'name',
    'char',
    'bytea',
    'date',
    'time',
    'timestamp',
  ],
  ...['timestamptz', 'uuid', 'json', 'xml', 'money', 'bit', 'varbit', 'inet', 'cidr', 'macaddr', 'macaddr8'],
  ...[
    'oid',
    'xid',
    'xid8',
    'cid',
    'tid',
    'pg_lsn',
    'pg_snapshot',
    'txid_snapshot',
    'tsvector',
    'tsquery',
    'jsonpath',
  ],
]);

/**
 * Kind and exactness of a type, domains resolved to what they are over.
 * @param deterministic false when the column's collation calls different texts equal
 */
export function kindOf(
  oid: string,
  types: ReadonlyMap<string, TypeFacts>,
  deterministic: boolean,
): KindFacts {
  const type = types.get(oid);
  if (type === undefined) return { kind: 'other', exact: false, labels: null, base: '', notNull: false };
  if (type.category === 'd' && type.over !== null) {
    const under = kindOf(type.over, types, deterministic);
    return { ...under, notNull: under.notNull || type.notNull };
  }
  const facts = (kind: Kind, exact: boolean): KindFacts => ({
    kind,
    exact,
    labels: type.labels,
    base: type.name,
    notNull: false,
  });
  if (type.category === 'e') return facts('text', true);
  if (type.array && type.over !== null) return facts('array', kindOf(type.over, types, deterministic).exact);
  if ((type.category === 'r' || type.category === 'm') && type.over !== null) {
    return facts('other', kindOf(type.over, types, deterministic).exact);
  }
  if (!type.builtin) return facts(type.name === 'citext' ? 'text' : 'other', false);
  const kind = KINDS[type.name] ?? 'other';
  return facts(kind, EXACT.has(type.name) && (kind !== 'text' || deterministic));
}
