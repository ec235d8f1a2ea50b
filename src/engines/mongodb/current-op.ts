import type { Document, MongoClient } from 'mongodb';

/** A retryable write is shown with a `transaction` too, while it runs (seen on 8.2); only a transaction says that it does not commit by itself. */
export const IN_TRANSACTION = { 'transaction.parameters.autocommit': false } as const;

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
