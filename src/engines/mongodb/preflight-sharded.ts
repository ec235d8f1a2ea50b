import type { Document } from 'mongodb';
import { showTable, type TableName } from '../../core/table.ts';
import type { Check, CheckContext, Finding } from './preflight-check.ts';

/** Older ones do not say in their events from which time on snapshots see a transaction over several shards, or were not looked at. */
const SHARDED_SINCE = [8, 2] as const;

/** What the cluster knows of a collection that is spread over shards; null: one shard has all of it. */
async function sharding(context: CheckContext, { schema, name }: TableName): Promise<Document | null> {
  const found = await context.client
    .db('config')
    .collection<{ _id: string }>('collections')
    .findOne({ _id: `${schema}.${name}` });
  return found;
}

const version: Check = {
  id: 'G2',
  title: 'version behind a router',
  level: 'block',
  expected: `MongoDB ${SHARDED_SINCE.join('.')} or newer`,
  server: 'router',
  run({ version: [major, minor] }) {
    const text = `${major}.${minor}`;
    const older = major < SHARDED_SINCE[0] || (major === SHARDED_SINCE[0] && minor < SHARDED_SINCE[1]);
    return Promise.resolve(
      older
        ? [{ observed: text, remedy: 'Upgrade first: sharded clusters of older versions were never seen.' }]
        : text,
    );
  },
};

const keys: Check = {
  id: 'G16',
  title: 'shard keys',
  level: 'block',
  expected: '_id, or its hash',
  server: 'router',
  async run(context) {
    const findings: Finding[] = [];
    for (const table of context.scope.tables) {
      const found = await sharding(context, table);
      if (found === null || found['unsplittable'] === true) continue;
      const observed = showTable(table);
      if (found['reshardingFields'] !== undefined)
        findings.push({
          observed: `${observed} is being resharded or moved`,
          remedy: 'Wait until that has ended: it makes a new collection.',
        });
      const key = Object.keys(found['key'] as Document);
      if (key.length !== 1 || key[0] !== '_id')
        findings.push({
          observed: `${observed} is sharded by ${key.join(', ')}`,
          remedy:
            'Not supported in this version: the same _id may be on several shards, and a document that changes its shard key is deleted on one and inserted on another, in an order that the log does not tell. Leave it out, or reshard it by _id.',
        });
    }
    return findings.length > 0 ? findings : 'all are';
  },
};

const parts: Check = {
  id: 'G17',
  title: 'transactions over several shards',
  level: 'info',
  expected: 'known',
  role: 'source',
  server: 'router',
  run: () =>
    Promise.resolve(
      'each shard’s part of one is applied as a whole, one behind the other; at the barrier of a switch all parts are there',
    ),
};

export const ROUTER_CHECKS: readonly Check[] = [version, keys, parts];
