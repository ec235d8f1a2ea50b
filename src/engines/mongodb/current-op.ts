import type { Document, MongoClient } from 'mongodb';

/** What the primary works on, idle transactions included. The stage takes no read concern but `local`. */
export const currentOperations = (
  client: MongoClient,
  options: { readonly allUsers: boolean },
  match: Document,
): Promise<Document[]> =>
  client
    .db('admin')
    .aggregate([{ $currentOp: { allUsers: options.allUsers, idleSessions: true } }, { $match: match }], {
      readConcern: { level: 'local' },
    })
    .toArray();
