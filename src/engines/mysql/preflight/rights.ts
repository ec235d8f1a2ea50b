import { otherSessions, preparedTransactions, privilegedAccounts } from '../fence-writers.ts';
import { OUR_USER } from '../sessions.ts';
import type { Finding } from '../../../core/preflight.ts';
import type { Check, CheckContext } from './check.ts';

/** Static and dynamic privileges by which everything works: names as the server lists them. */
const NEEDED: Readonly<Record<'mysql' | 'mariadb', readonly string[]>> = {
  mysql: [
    'REPLICATION SLAVE',
    'REPLICATION CLIENT',
    'PROCESS',
    'SYSTEM_VARIABLES_ADMIN',
    'CONNECTION_ADMIN',
    'SESSION_VARIABLES_ADMIN',
  ],
  mariadb: [
    'REPLICATION SLAVE',
    'BINLOG MONITOR',
    'PROCESS',
    'READ_ONLY ADMIN',
    'CONNECTION ADMIN',
    'SLAVE MONITOR',
    'CREATE USER',
  ],
};

async function grants(context: CheckContext): Promise<readonly string[]> {
  return (await context.link.rows('SHOW GRANTS')).map(([grant]) => grant as string);
}

const everything = (all: readonly string[]): boolean =>
  all.some((grant) => /^GRANT (ALL PRIVILEGES|.*\bSUPER\b.*) ON \*\.\*/.test(grant));

async function missingRights(context: CheckContext): Promise<readonly string[]> {
  const all = await grants(context);
  if (all.some((grant) => /^GRANT ALL PRIVILEGES ON \*\.\*/.test(grant))) return [];
  const onAll = all
    .filter((grant) => / ON \*\.\* /.test(grant))
    .join(',')
    .replaceAll('READ ONLY ADMIN', 'READ_ONLY ADMIN');
  return NEEDED[context.link.flavour].filter((name) => !onAll.includes(name));
}

/** What our account may do, and who else may do it. */
export const RIGHTS_CHECKS: readonly Check[] = [
  {
    id: 'M16',
    title: 'privileges',
    level: 'block',
    expected: 'those that reading the log, closing the server and ending sessions take',
    run: async (context) => {
      const missing = await missingRights(context);
      if (missing.length === 0) return everything(await grants(context)) ? 'all of them' : 'as needed';
      return [
        {
          observed: `missing: ${missing.join(', ')}`,
          remedy: 'Grant them to our account.',
          sql: `GRANT ${missing.join(', ')} ON *.* TO ${context.account}`,
        },
      ];
    },
  },
  {
    id: 'M16',
    title: 'nobody else passes a read-only server',
    level: 'warn',
    expected: 'no other account with CONNECTION_ADMIN, SUPER or READ_ONLY ADMIN',
    run: others,
  },
  {
    id: 'M16',
    title: 'the account is ours alone',
    level: 'warn',
    expected: 'no session of the application under our account',
    run: async ({ link }) => {
      const rows = await link.rows(
        `SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ${OUR_USER} AND DB IS NOT NULL AND ID <> CONNECTION_ID()`,
      );
      const count = Number(rows[0]?.[0] ?? 0);
      if (count === 0) return 'ours alone';
      return [
        {
          observed: `${count} sessions in a database`,
          remedy:
            'Give Verdigris an account of its own: sessions of its account are not stopped by the fence.',
        },
      ];
    },
  },
  {
    id: 'M25',
    title: 'long and prepared transactions',
    level: 'warn',
    expected: 'no prepared XA transaction',
    run: async ({ link }) => {
      const prepared = await preparedTransactions(link);
      if (prepared.length === 0) return 'none';
      return prepared.map((observed) => ({
        observed,
        remedy: 'End it: its COMMIT passes a read-only server, and the fence refuses.',
      }));
    },
  },
];

async function others(context: CheckContext): Promise<readonly Finding[] | string> {
  const accounts = await privilegedAccounts(context.link);
  if (accounts === null)
    return [
      {
        observed: 'the accounts cannot be listed',
        remedy: 'Let our account read mysql.user.',
        unknown: true,
      },
    ];
  const sessions = (await otherSessions(context.link)).length;
  if (accounts.length === 0) return `none; ${sessions} sessions of others now`;
  return [
    {
      observed: accounts.join(', '),
      remedy:
        'Lock these accounts during the switch: they write to a read-only server, and no fence of this engine stops them.',
    },
  ];
}
