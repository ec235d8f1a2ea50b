import type { Document } from 'mongodb';
import type { CheckResult } from '../../core/preflight.ts';
import { showTable } from '../../core/table.ts';
import { serverVersion } from './catalog.ts';
import { translate } from './errors.ts';
import type { Check, CheckContext, Finding } from './preflight-check.ts';
import { COLLECTION_CHECKS, SAMPLE_CHECKS } from './preflight-collections.ts';
import { readLog } from './log.ts';
import { ROUTER_CHECKS } from './preflight-sharded.ts';

/** Below that the log has no DDL events and no raw descriptions of updates. */
const OLDEST_MAJOR = 6;
/** Newer ones were not seen. */
const NEWEST_MAJOR = 8;
const SPLIT_SINCE = [6, 0, 9] as const;

const replicaSet: Check = {
  id: 'G1',
  title: 'kind of server',
  level: 'block',
  expected: 'a replica set, or the router of a sharded cluster',
  run: ({ client, hello, router }) => {
    const routers = client.options.hosts.length;
    if (router && routers > 1)
      return found(
        `${routers} routers of a sharded cluster`,
        'Name one of them in the address: what is read piece by piece is only known to the router that was asked first.',
      );
    if (router) return seen('the router of a sharded cluster');
    if (hello['setName'] === undefined)
      return found(
        'a server of its own, without a log',
        'Make it a replica set (of one member, if need be).',
      );
    return seen(`replica set ${String(hello['setName'])}`);
  },
};

const versions: Check = {
  id: 'G2',
  title: 'version and feature compatibility',
  level: 'block',
  expected: `MongoDB ${OLDEST_MAJOR} to ${NEWEST_MAJOR}, no upgrade in progress`,
  async run({ client, version }) {
    const text = await serverVersion(client);
    const reply = await client.db('admin').command({ getParameter: 1, featureCompatibilityVersion: 1 });
    const compatibility = reply['featureCompatibilityVersion'] as Document;
    const findings: Finding[] = [];
    if (version[0] < OLDEST_MAJOR)
      findings.push({ observed: text, remedy: `Upgrade to MongoDB ${OLDEST_MAJOR} or newer.` });
    if (version[0] > NEWEST_MAJOR)
      findings.push({
        observed: text,
        level: 'warn',
        remedy: 'Try the migration on a copy first: this version was never seen.',
      });
    if (compatibility['targetVersion'] !== undefined)
      findings.push({
        observed: `an upgrade to ${String(compatibility['targetVersion'])} is under way`,
        remedy: 'Let setFeatureCompatibilityVersion finish first.',
      });
    if (Number(String(compatibility['version']).split('.')[0]) < OLDEST_MAJOR)
      findings.push({
        observed: `feature compatibility ${String(compatibility['version'])}`,
        remedy: 'Raise the feature compatibility version.',
      });
    return findings.length > 0 ? findings : `${text}, compatibility ${String(compatibility['version'])}`;
  },
};

const storage: Check = {
  id: 'G3',
  title: 'storage engine',
  level: 'block',
  server: 'set',
  expected: 'wiredTiger',
  async run({ client }) {
    const status = await client.db('admin').command({ serverStatus: 1, repl: 0, metrics: 0 });
    const name = String((status['storageEngine'] as Document | undefined)?.['name']);
    return name === 'wiredTiger' ? name : found(name, 'Only wiredTiger reads snapshots at a cluster time.');
  },
};

const logWindow: Check = {
  id: 'G4',
  title: 'length of the log',
  level: 'warn',
  expected: '24 hours, or a log that is not full yet',
  role: 'source',
  async run({ client, config }) {
    const { first, last, full } = await readLog(client, config);
    const seconds = Number((last >> 32n) - (first >> 32n));
    const hours = (seconds / 3_600).toFixed(1);
    if (!full || seconds >= 24 * 3_600) return `${hours} hours${full ? '' : ', not full'}`;
    return found(
      `${hours} hours`,
      'Make the log larger, or set oplogMinRetentionHours: a copy that takes longer than the log is lost.',
      'db.adminCommand({ replSetResizeOplog: 1, size: 51200, minRetentionHours: 24 })',
    );
  },
};

const logGrowth: Check = {
  id: 'G5',
  title: 'growth of the log',
  level: 'info',
  expected: 'known',
  role: 'source',
  async run({ client, config }) {
    const { first, last, bytes } = await readLog(client, config);
    const hours = Number((last >> 32n) - (first >> 32n)) / 3_600;
    const gigabytes = bytes / 1e9;
    return hours <= 0 ? 'the log has just begun' : `${(gigabytes / hours).toFixed(3)} GB an hour`;
  },
};

const NEEDED = {
  source: [
    'changeStream',
    'find',
    'listCollections',
    'setUserWriteBlockMode',
    'bypassWriteBlockingMode',
    'insert',
  ],
  sink: [
    'insert',
    'update',
    'remove',
    'createIndex',
    'dropIndex',
    'collMod',
    'setUserWriteBlockMode',
    'bypassWriteBlockingMode',
  ],
} as const;
const NEEDED_OF = {
  set: ['replSetGetConfig', 'shardingState'],
  router: ['appendOplogNote', 'killop', 'listShards'],
} as const;

const privileges: Check = {
  id: 'G6',
  title: 'privileges',
  level: 'block',
  expected: 'authorization is on, and our user may do what the run needs',
  async run({ client, scope, router }) {
    const status = await client.db('admin').command({ connectionStatus: 1, showPrivileges: true });
    const info = status['authInfo'] as Document;
    const users = info['authenticatedUsers'] as readonly Document[];
    if (users.length === 0) {
      return found(
        'no user is logged in',
        'Turn on authorization: without it the fence would hold our own writes as well, so there is no fence.',
      );
    }
    const actions = new Set(
      (info['authenticatedUserPrivileges'] as readonly Document[]).flatMap(
        (one) => one['actions'] as readonly string[],
      ),
    );
    const missing = [
      ...NEEDED[scope.role],
      ...NEEDED_OF[router ? 'router' : 'set'],
      'createUser',
      'dropUser',
      'inprog',
      'killAnySession',
    ].filter((action) => !actions.has(action) && !actions.has('anyAction'));
    if (missing.length === 0) return `${String(users[0]?.['user'])} has all of them`;
    return found(`missing: ${missing.join(', ')}`, 'Grant the role root, or one with these actions.');
  },
};

const passers: Check = {
  id: 'G7',
  title: 'who else can write past the fence',
  level: 'warn',
  expected: 'nobody but us',
  async run({ client }) {
    const status = await client.db('admin').command({ connectionStatus: 1 });
    const self = String(((status['authInfo'] as Document)['authenticatedUsers'] as Document[])[0]?.['user']);
    const reply = await client.db('admin').command({
      usersInfo: { forAllDBs: true },
      showPrivileges: false,
    });
    const strong = new Set(['root', 'restore', '__system']);
    const others = (reply['users'] as readonly Document[]).filter(
      (user) =>
        String(user['user']) !== self &&
        (user['roles'] as readonly Document[]).some((role) => strong.has(String(role['role']))),
    );
    if (others.length === 0) return 'nobody';
    return found(
      others.map((user) => String(user['user'])).join(', '),
      'Users with root or restore pass the block of user writes: no application may be one of them.',
    );
  },
};

const majority: Check = {
  id: 'G8',
  title: 'members',
  level: 'warn',
  server: 'set',
  expected: 'no arbiters, all members healthy',
  async run({ client }) {
    const status = await client.db('admin').command({ replSetGetStatus: 1 });
    const members = status['members'] as readonly Document[];
    const arbiters = members.filter((member) => member['stateStr'] === 'ARBITER');
    const ill = members.filter((member) => Number(member['health']) !== 1);
    const findings = [
      ...arbiters.map((member) => ({
        observed: `arbiter ${String(member['name'])}`,
        remedy:
          'With a data member down nothing is acknowledged by a majority, and change streams stand still.',
      })),
      ...ill.map((member) => ({
        observed: `${String(member['name'])} is down`,
        remedy: 'Bring the member back.',
      })),
    ];
    return findings.length > 0 ? findings : `${members.length} members`;
  },
};

const images: Check = {
  id: 'G9',
  title: 'documents as they were before and after a change',
  level: 'block',
  expected: 'kept by every collection whose fields are mapped',
  role: 'source',
  run: ({ scope }) => {
    const needed = scope.needsFullImages;
    if (needed.length === 0) return seen('kept, or not needed');
    return Promise.resolve(
      needed.map(({ table, why }) => ({
        observed: `${showTable(table)}: ${why}`,
        remedy:
          'Have the collection keep them before the copy begins; each update then also writes the document as it was.',
        sql: `db.getSiblingDB(${JSON.stringify(table.schema)}).runCommand({ collMod: ${JSON.stringify(table.name)}, changeStreamPreAndPostImages: { enabled: true } })`,
      })),
    );
  },
};

const largeEvents: Check = {
  id: 'G10',
  title: 'events of more than 16 MB',
  level: 'warn',
  expected: `${SPLIT_SINCE.join('.')} or newer`,
  role: 'source',
  async run({ client }) {
    const text = await serverVersion(client);
    const parts = text.split('.').map(Number);
    const older = SPLIT_SINCE.findIndex((part, index) => part !== parts[index]);
    const isOlder = older >= 0 && (parts[older] ?? 0) < (SPLIT_SINCE[older] ?? 0);
    return isOlder
      ? found(text, 'An update of a document near 16 MB would stop the stream for good: upgrade first.')
      : text;
  },
};

const transactions: Check = {
  id: 'G17',
  title: 'multi-document transactions',
  level: 'info',
  expected: 'known',
  async run({ client }) {
    const status = await client.db('admin').command({ serverStatus: 1, transactions: 1 });
    const counted = status['transactions'] as Document | undefined;
    return `${String(counted?.['totalCommitted'] ?? 0)} committed since the start`;
  },
};

const notCarried: Check = {
  id: 'G18',
  title: 'what nobody carries over',
  level: 'warn',
  expected: 'no users and roles of applications',
  role: 'source',
  async run({ client }) {
    const reply = await client.db('admin').command({ usersInfo: { forAllDBs: true } });
    const users = (reply['users'] as readonly Document[]).length;
    return users <= 1
      ? 'one user'
      : found(
          `${users} users`,
          'Users, roles, search indexes and query settings are not replicated: make them on green.',
        );
  },
};

const found = (observed: string, remedy: string, sql?: string): Promise<readonly Finding[]> =>
  Promise.resolve([{ observed, remedy, ...(sql === undefined ? {} : { sql }) }]);
const seen = (text: string): Promise<string> => Promise.resolve(text);

const CHECKS: readonly Check[] = [
  replicaSet,
  versions,
  storage,
  logWindow,
  logGrowth,
  privileges,
  passers,
  majority,
  images,
  largeEvents,
  ...COLLECTION_CHECKS,
  ...SAMPLE_CHECKS,
  ...ROUTER_CHECKS,
  transactions,
  notCarried,
];

/** Every check of the reference that applies to the role, in its order. */
export async function runPreflight(
  parts: Omit<CheckContext, 'hello' | 'router' | 'version'>,
): Promise<readonly CheckResult[]> {
  const { client, env, scope } = parts;
  const side = env.side;
  let context: CheckContext;
  try {
    const hello = await client.db('admin').command({ hello: 1 });
    const [major = 0, minor = 0] = (await serverVersion(client)).split('.').map(Number);
    context = { ...parts, hello, router: hello['msg'] === 'isdbgrid', version: [major, minor] };
  } catch (error) {
    throw translate(error, side === 'blue' ? 'source' : 'sink');
  }
  const results: CheckResult[] = [];
  const server = context.router ? 'router' : 'set';
  for (const check of CHECKS) {
    if (check.server !== undefined && check.server !== server) continue;
    if (check.role !== undefined && check.role !== scope.role) continue;
    const { id, title, level, expected } = check;
    const base = { id, side, title, expected };
    try {
      const answer = await check.run(context);
      if (typeof answer === 'string')
        results.push({ ...base, level: 'info', outcome: 'ok', observed: answer, remedy: '' });
      else
        results.push(...answer.map((one): CheckResult => ({ ...base, level, outcome: 'finding', ...one })));
    } catch (error) {
      const { message } = translate(error, side === 'blue' ? 'source' : 'sink');
      results.push({
        ...base,
        level,
        outcome: 'could-not-check',
        observed: message,
        remedy: 'Give our user the right to look, or look yourself.',
      });
    }
  }
  return results;
}
