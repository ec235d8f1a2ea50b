import { hash } from 'node:crypto';
import type { MongoClient } from 'mongodb';
import type { Digester } from '../../core/digest.ts';
import type { KeyRange } from '../../core/snapshot.ts';
import type { Relation, Tuple } from '../../core/table.ts';
import type { MongoConfig } from './config.ts';
import { statementTimeout } from './connect.ts';
import { rowOfDocument, shapeOf } from './shape.ts';
import { DOCUMENT } from './document.ts';
import { translate, type Where } from './errors.ts';
import { readRange } from './range-read.ts';
import { rowsOf, split } from './snapshot.ts';
import { documentsOf } from './wire.ts';

/**
 * Reads one side for verification. Documents are hashed here and not by the server: its own hash ($toHashedIndexKey) takes numbers of
 * different types for the same, and others are not to be had. So the documents travel, and are compared to the byte: types, order of
 * fields and repeated names included.
 */
export function createDigester(parts: {
  readonly client: MongoClient;
  readonly config: MongoConfig;
  readonly where: Where;
}): Digester {
  const { client, config, where } = parts;
  const read = (relation: Relation, range: KeyRange) =>
    readRange(client, relation, range, { where, timeoutMs: statementTimeout(config) }).batches;
  return {
    async split(relation, rows) {
      try {
        return await split(client, relation, rows);
      } catch (error) {
        throw translate(error, where);
      }
    },
    async digest(relation, columns, range) {
      const sum = new Uint32Array(4);
      let rows = 0;
      const whole = columns.includes(DOCUMENT);
      for await (const { batch } of read(relation, range)) {
        for (const document of documentsOf(batch)) {
          rows += 1;
          const one = hash('md5', whole ? document : String(rowOfDocument(document)[0]), 'buffer');
          for (let i = 0; i < 4; i++) sum[i] = (sum[i] as number) + one.readUInt32LE(i * 4);
        }
      }
      return { rows, hash: Buffer.from(sum.buffer).toString('hex') };
    },
    async *hashes(relation, { key, hashed }, range) {
      const { document } = shapeOf(relation);
      const whole = hashed.includes(document);
      for await (const rows of rowsOf(read(relation, range), range, relation)) {
        yield rows.map((row): Tuple => {
          const content = hash('md5', whole ? (row[document] as Uint8Array) : String(row[0]), 'hex');
          return [...key.map((column) => row[column] ?? null), content];
        });
      }
    },
    read: (relation, range) => rowsOf(read(relation, range), range, relation),
  };
}
