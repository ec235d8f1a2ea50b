import { hash } from 'node:crypto';
import type { Db } from 'mongodb';
import type { TargetTable } from '../../core/plan.ts';
import { tableId, type Relation, type TableName } from '../../core/table.ts';
import { isAlone, partsOf } from './document.ts';
import { SERVER_CODE, codeOfError } from './errors.ts';

const sum = (text: string, digits: number): string => hash('sha256', text, 'hex').slice(0, digits);

/** What the names of all such collections of a stream begin with: names of collections and migrations may be too long to stand in them. */
const prefixOf = (stream: string): string => `parts_${sum(stream, 16)}_`;

/** The collection of the state where parts of a merged collection wait: documents with the `_id` and the parts' fields. */
export const waitingName = (stream: string, table: TableName): string =>
  `${prefixOf(stream)}${sum(tableId(table), 24)}`;

/** Parts of it wait for documents of an owner. */
const waits = (relation: Relation): boolean => partsOf(relation).length > 0 && !isAlone(relation);

/** The same keys as the merged collection has; null for one where nothing waits. */
export const waitingRelation = (db: Db, stream: string, relation: Relation): Relation | null =>
  waits(relation)
    ? { ...relation, table: { schema: db.databaseName, name: waitingName(stream, relation.table) } }
    : null;

export async function prepareWaiting(db: Db, stream: string, tables: readonly TargetTable[]): Promise<void> {
  for (const { relation } of tables) {
    if (!waits(relation)) continue;
    try {
      await db.createCollection(waitingName(stream, relation.table));
    } catch (error) {
      if (codeOfError(error) !== SERVER_CODE.namespaceExists) throw error;
    }
  }
}

/** Drops all of a stream. */
export async function dropWaiting(db: Db, stream: string): Promise<void> {
  for (const { name } of await db.listCollections({}, { nameOnly: true }).toArray())
    if (name.startsWith(prefixOf(stream))) await db.dropCollection(name);
}
