import type { Document, MongoClient } from 'mongodb';
import { currentOperations } from './current-op.ts';

/**
 * Ends the sessions in which a transaction of an older term of this migration is open. A frozen engine would keep its documents locked for as long
 * as the server lets a transaction live.
 */
export async function endOlderTerms(client: MongoClient, migration: string, term: number): Promise<void> {
  const admin = client.db('admin');
  const open = await currentOperations(client, { allUsers: false }, { transaction: { $exists: true } });
  const old = open.filter((one) => isOlder(String(one['appName'] ?? ''), migration, term));
  const ids = old.flatMap((one) => {
    const lsid = one['lsid'] as Document | undefined;
    return lsid === undefined ? [] : [{ id: lsid['id'] as unknown }];
  });
  if (ids.length > 0) await admin.command({ killSessions: ids });
}

function isOlder(name: string, migration: string, term: number): boolean {
  const head = `verdigris:${migration}:`;
  const match = /:t(\d+)$/.exec(name);
  const found = match === null ? 0 : Number(match[1]);
  return name.startsWith(head) && found > 0 && found < term;
}
