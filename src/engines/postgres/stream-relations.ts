import { VerdigrisError } from '../../core/errors.ts';
import type { SchemaChange } from '../../core/change.ts';
import { showTable, tableId, type Relation, type TableName } from '../../core/table.ts';
import type { RelationMessage } from './decoder-messages.ts';

export interface RelationLookup {
  /** The layout as the catalog has it now. @throws VerdigrisError SCHEMA_TABLE_MISSING */
  describe(table: TableName): Promise<Relation>;
  /** The server's spelling of types, with length or precision, in order. */
  formatTypes(
    types: readonly { readonly oid: number; readonly typmod: number }[],
  ): Promise<readonly (string | null)[]>;
}

/** What an announced relation turned out to be; `relation` is null when rows of it cannot be read. */
export interface Reconciled {
  readonly relation: Relation | null;
  readonly change: SchemaChange | null;
}

/**
 * Holds which relation (layout) each announced relation of the stream is. The names and types of the Relation message decide, because the
 * catalog shows the table as it is now and the log may be older; keys, kinds and labels come from the catalog, because the message
 * has none of them and flags every column under replica identity FULL.
 */
export class RelationMap {
  readonly #lookup: RelationLookup;
  readonly #known = new Map<string, Relation>();
  readonly #byMessage = new WeakMap<RelationMessage, Relation | null>();
  readonly #lastOf = new Map<number, RelationMessage>();
  /** Spellings of the server's own types, which do not change: hundreds of tables have the same few. */
  readonly #spelt = new Map<string, string | null>();

  constructor(known: readonly Relation[], lookup: RelationLookup) {
    for (const relation of known) this.#known.set(tableId(relation.table), relation);
    this.#lookup = lookup;
  }

  /** The relation of a row. @throws VerdigrisError SCHEMA_CHANGED when its layout cannot be known any more */
  of(message: RelationMessage): Relation {
    const relation = this.#byMessage.get(message);
    if (relation === undefined || relation === null) {
      const table = { schema: message.schema, name: message.name };
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `The layout of ${showTable(table)} at this point of the log is not known any more.`,
        {
          context: { table },
        },
      );
    }
    return relation;
  }

  /** True when the message repeats what is known: the server announces again after every change of its caches. */
  repeats(message: RelationMessage): boolean {
    const last = this.#lastOf.get(message.id);
    if (last === undefined || !same(last, message)) return false;
    this.#byMessage.set(message, this.#byMessage.get(last) ?? null);
    this.#lastOf.set(message.id, message);
    return true;
  }

  async reconcile(message: RelationMessage): Promise<Reconciled> {
    const table: TableName = { schema: message.schema, name: message.name };
    const types = await this.#spellings(message);
    const known = this.#known.get(tableId(table));
    const mismatch = known === undefined ? 'not known' : difference(known, message, types);
    if (known !== undefined && mismatch === null) return this.#settle(message, known, null);
    const now = await this.#describe(table);
    const relation = now !== null && difference(now, message, types) === null ? now : null;
    if (known === undefined) return this.#settle(message, relation, null);
    const detail = `${showTable(table)}: ${mismatch}${relation === null ? ', and it was changed again since' : ''}`;
    return this.#settle(message, relation, { table, relation, detail });
  }

  async #spellings({ columns }: RelationMessage): Promise<readonly (string | null)[]> {
    const known = columns.map((column) => this.#spelt.get(spelling(column)));
    if (!known.includes(undefined)) return known as (string | null)[];
    const types = await this.#lookup.formatTypes(
      columns.map(({ typeOid: oid, typmod }) => ({ oid, typmod })),
    );
    for (const [index, column] of columns.entries())
      if (column.typeOid < FIRST_NORMAL_OID) this.#spelt.set(spelling(column), types[index] ?? null);
    return types;
  }

  #settle(message: RelationMessage, relation: Relation | null, change: SchemaChange | null): Reconciled {
    this.#byMessage.set(message, relation);
    this.#lastOf.set(message.id, message);
    if (relation !== null) this.#known.set(tableId(relation.table), relation);
    return { relation, change };
  }

  async #describe(table: TableName): Promise<Relation | null> {
    try {
      return await this.#lookup.describe(table);
    } catch (error) {
      if (error instanceof VerdigrisError && error.code === 'SCHEMA_TABLE_MISSING') return null;
      throw error;
    }
  }
}

/** Types from here on were made by somebody (FirstNormalObjectId, PostgreSQL's transam.h). */
const FIRST_NORMAL_OID = 16_384;

const spelling = ({ typeOid, typmod }: RelationMessage['columns'][number]): string => `${typeOid} ${typmod}`;

const same = (left: RelationMessage, right: RelationMessage): boolean =>
  left.schema === right.schema &&
  left.name === right.name &&
  left.identity === right.identity &&
  left.columns.length === right.columns.length &&
  left.columns.every((column, index) => {
    const other = right.columns[index];
    return (
      other !== undefined &&
      column.name === other.name &&
      column.typeOid === other.typeOid &&
      column.typmod === other.typmod &&
      column.inIdentity === other.inIdentity
    );
  });

/** What differs between a known layout and an announced one, or null. */
function difference(
  relation: Relation,
  message: RelationMessage,
  types: readonly (string | null)[],
): string | null {
  const { columns } = relation;
  for (const [index, column] of message.columns.entries()) {
    const known = columns[index];
    if (known === undefined) return `column ${column.name} was added`;
    if (known.name !== column.name) return `column ${known.name} was renamed, dropped or moved`;
    if (known.type !== types[index])
      return `column ${column.name} is of type ${types[index] ?? 'unknown'} instead of ${known.type}`;
  }
  if (columns.length > message.columns.length) {
    return `column ${(columns[message.columns.length] as { name: string }).name} was dropped`;
  }
  const full = message.identity === 'f';
  if (full !== (relation.identity === 'full'))
    return `its replica identity is ${full ? 'full now' : 'not full any more'}`;
  if (message.identity === 'n' && relation.identity !== 'none') return 'its replica identity is nothing now';
  return null;
}
