import type { Document } from 'mongodb';
import type { MongoRig } from './rig.ts';

const BATCH = 1_000;

/** A cursor of the driver on each collection, its documents inserted unordered, indexes behind them: where there are no database tools. */
export async function plainCopy(
  rig: MongoRig,
  collections: readonly string[],
  indexes: readonly { readonly on: string; readonly spec: Document }[],
): Promise<void> {
  const writeConcern = { w: 'majority', journal: true } as const;
  for (const name of collections) {
    const target = rig.db('green').collection(name, { writeConcern });
    let batch: Document[] = [];
    for await (const document of rig.db('blue').collection(name).find({}, { batchSize: BATCH })) {
      batch.push(document);
      if (batch.length < BATCH) continue;
      await target.insertMany(batch, { ordered: false });
      batch = [];
    }
    if (batch.length > 0) await target.insertMany(batch, { ordered: false });
  }
  for (const { on, spec } of indexes)
    await rig.db('green').command({ createIndexes: on, indexes: [spec], writeConcern });
}
