import type { Link } from './connect.ts';
import { OUR_USER } from './sessions.ts';
import { literal } from './sql.ts';

export interface Writer {
  readonly id: number;
  readonly describe: string;
  readonly ageMs: number;
}

/** The server's own threads and readers of its log: they write nothing that a client asked for. */
const SYSTEM = `USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user') AND COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Binlog Dump GTID')`;

/** Sessions of other accounts. */
export async function otherSessions(link: Link): Promise<readonly number[]> {
  const rows = await link.rows(
    `SELECT ID FROM information_schema.PROCESSLIST WHERE USER <> ${OUR_USER} AND ${SYSTEM}`,
  );
  return rows.map(([id]) => Number(id));
}

/** Transactions of other accounts that hold row locks, so have written or are about to. */
export async function openWriters(link: Link): Promise<readonly Writer[]> {
  const rows = await link.rows(
    `SELECT t.trx_mysql_thread_id, p.USER, TIMESTAMPDIFF(MICROSECOND, t.trx_started, CONVERT_TZ(NOW(6), '+00:00', 'SYSTEM')) / 1000
     FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
     WHERE t.trx_rows_modified > 0 AND p.USER <> ${OUR_USER}`,
  );
  return rows.map(([id, user, age]) => ({
    id: Number(id),
    describe: `open transaction of ${user ?? '?'} (session ${id})`,
    ageMs: Math.max(0, Number(age ?? 0)),
  }));
}

/** Prepared XA transactions: they belong to no session, and their COMMIT passes a read-only server. */
export async function preparedTransactions(link: Link): Promise<readonly string[]> {
  const rows = await link.rows('XA RECOVER CONVERT XID').catch(() => link.rows('XA RECOVER'));
  return rows.map((row) => `prepared XA transaction ${row[3] ?? '?'}`);
}

/** Accounts beside ours that may write while the server is read_only. Null when this account may not look. */
export async function privilegedAccounts(link: Link): Promise<readonly string[] | null> {
  const ours = (await link.value("SELECT REPLACE(CURRENT_USER(), '@', '\\'@\\'')")) ?? '';
  const sql =
    link.flavour === 'mysql'
      ? `SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('CONNECTION_ADMIN', 'SUPER')`
      : `SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('READ ONLY ADMIN', 'SUPER', 'READ_ONLY ADMIN')`;
  const rows = await link.rows(sql).catch(() => null);
  if (rows === null) return null;
  const system = /^'(mysql\.\w+|mariadb\.sys)'@/;
  return rows
    .map(([grantee]) => grantee as string)
    .filter((grantee) => grantee !== `'${ours}'` && !system.test(grantee));
}

/**
 * Accounts that are locked while a MariaDB server is fenced: those that read_only stops anyway. The server cannot keep read_only over a
 * restart by itself, and an account stays locked. Accounts that pass read_only are left alone: who administers the server must get in.
 */
export async function lockableAccounts(link: Link): Promise<readonly string[]> {
  const privileged = new Set((await privilegedAccounts(link)) ?? []);
  const rows = await link.rows(
    `SELECT User, Host FROM mysql.global_priv WHERE User <> '' AND User <> ${OUR_USER}
       AND coalesce(JSON_VALUE(Priv, '$.is_role'), 'false') NOT IN ('1', 'true')
       AND coalesce(JSON_VALUE(Priv, '$.account_locked'), 'false') NOT IN ('1', 'true')`,
  );
  return rows
    .map(([user, host]) => [user as string, host as string] as const)
    .filter(([user, host]) => !privileged.has(`'${user}'@'${host}'`) && !/^(mariadb|mysql)\./.test(user))
    .map(([user, host]) => `${literal(user)}@${literal(host)}`);
}
