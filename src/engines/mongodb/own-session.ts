import { hash } from 'node:crypto';
import type { ClientSession, MongoClient } from 'mongodb';

/** Bytes of a session's id that are ours; the others stay random. */
const FIRST = 6;
const LAST = 2;

const marks = new Map<string, Buffer>();

function markOf(migration: string): Buffer {
  let mark = marks.get(migration);
  if (mark === undefined) {
    mark = hash('sha256', `verdigris ${migration}`, 'buffer').subarray(0, FIRST + LAST);
    marks.set(migration, mark);
  }
  return mark;
}

/**
 * Makes the id of a session that has done nothing yet one by which its transactions are known in the log: of a transaction over several shards only one
 * has our checkpoint. Asked of the name of its client, which says whose it is.
 */
export function markSession(session: ClientSession, client: MongoClient): void {
  const migration = /^verdigris:([^:]+):/.exec(client.options.appName ?? '')?.[1];
  const id = session.id?.id.buffer;
  if (migration === undefined || id === undefined) return;
  const mark = markOf(migration);
  id.set(mark.subarray(0, FIRST), 0);
  id.set(mark.subarray(FIRST), id.length - LAST);
}

/** @param id the 16 bytes of a session's id */
export function isOwnSession(id: Uint8Array, migration: string): boolean {
  const mark = markOf(migration);
  const own = [...id.subarray(0, FIRST), ...id.subarray(id.length - LAST)];
  return own.every((byte, index) => byte === mark[index]);
}
