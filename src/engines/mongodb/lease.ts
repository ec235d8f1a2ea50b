import type { Document, MongoClient } from 'mongodb';
import { isRouter } from './cluster.ts';
import { IN_TRANSACTION, currentOperations } from './current-op.ts';

/**
 * Ends the sessions in which a transaction of an older term of this migration is open. A frozen engine would keep its documents locked for as long
 * as the server lets a transaction live.
 * @param record also those that belong to no stream and carry the term 0: the record of an engine that is gone. Else they may be this engine's own.
 */
export async function endOlderTerms(
  client: MongoClient,
  migration: string,
  term: number,
  record = false,
): Promise<void> {
  const admin = client.db('admin');
  // Through a router the operations of one's own user are nobody's (seen on 8.2).
  const allUsers = await isRouter(client);
  const open = await currentOperations(client, { allUsers }, IN_TRANSACTION);
  const old = open.filter((one) => {
    const found = termOf(String(one['appName'] ?? ''), migration);
    return found !== null && found < term && (record || found > 0);
  });
  const ids = old.flatMap((one) => {
    const lsid = one['lsid'] as Document | undefined;
    return lsid === undefined ? [] : [{ id: lsid['id'] as unknown }];
  });
  if (ids.length > 0) await admin.command({ killSessions: ids });
}

/** The term in the name of a session; null: it is not of this migration. */
function termOf(name: string, migration: string): number | null {
  const match = /:t(\d+)$/.exec(name);
  return name.startsWith(`verdigris:${migration}:`) && match !== null ? Number(match[1]) : null;
}
