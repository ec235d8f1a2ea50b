import { BSON, MongoClient, type ChangeStreamDocument, type Document, type ResumeToken } from 'mongodb';

/**
 * What one writes oneself with the driver: reads the change stream of a database and applies one event after the other, each with one
 * write. Arguments: address of blue, address of green, database, resume token, collection whose first document is the end.
 */
async function main(): Promise<void> {
  const [blueUri = '', greenUri = '', database = '', token = '', end = ''] = process.argv.slice(2);
  await using blue = await new MongoClient(blueUri).connect();
  await using green = await new MongoClient(greenUri).connect();
  const target = green.db(database, { writeConcern: { w: 'majority', journal: true } });
  const stream = blue.db(database).watch([], { resumeAfter: BSON.EJSON.parse(token) as ResumeToken });
  for await (const event of stream) {
    await apply(event);
    if ('ns' in event && 'coll' in event.ns && event.ns.coll === end) break;
  }
  await stream.close();

  async function apply(event: ChangeStreamDocument): Promise<void> {
    switch (event.operationType) {
      case 'insert':
        await target.collection(event.ns.coll).insertOne(event.fullDocument);
        return;
      case 'replace':
        await target.collection(event.ns.coll).replaceOne(event.documentKey, event.fullDocument);
        return;
      case 'delete':
        await target.collection(event.ns.coll).deleteOne(event.documentKey);
        return;
      case 'update': {
        const { updatedFields = {}, removedFields = [], truncatedArrays = [] } = event.updateDescription;
        if (truncatedArrays.length > 0) throw new Error('arrays that become shorter are not part of this');
        const update: Document = {};
        if (Object.keys(updatedFields).length > 0) update['$set'] = updatedFields;
        if (removedFields.length > 0)
          update['$unset'] = Object.fromEntries(removedFields.map((name) => [name, '']));
        await target.collection(event.ns.coll).updateOne(event.documentKey, update);
        return;
      }
      default:
        throw new Error(`an event that is not part of this: ${event.operationType}`);
    }
  }
}

await main();
