import { asVerdigrisError, VerdigrisError } from '../../core/errors.ts';
import type { ProxyReport } from '../../core/proxy.ts';
import type { AdminConsole, ShowRow } from './admin.ts';
import type { PgBouncerConfig } from './config.ts';
import { readIni, whyNotReplaceable } from './file.ts';
import { connectPairs, connectValue, databaseEntries } from './ini.ts';
import { place, shownDatabase, sideOf, type Shown } from './shown.ts';

type Finding = ProxyReport['findings'][number];

/** From 1.21 on protocol-level prepared statements work in transaction mode. */
const PREPARED_SINCE = [1, 21] as const;

interface ProbeInput {
  readonly name: string;
  readonly config: PgBouncerConfig;
  readonly admin: AdminConsole;
  readonly signal: AbortSignal;
}

/** Reads settings, databases and the ini file. @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT */
export async function probePgBouncer({ name, config, admin, signal }: ProbeInput): Promise<ProxyReport> {
  const version = (await admin.command('SHOW VERSION', signal))[0]?.['version'] ?? 'unknown version';
  const settings = settingsOf(await admin.command('SHOW CONFIG', signal));
  const rows = await admin.command('SHOW DATABASES', signal);
  const users = await admin.command('SHOW USERS', signal);
  const held = await wholeIsHeld(admin, signal);
  const hold = Number(settings.get('query_wait_timeout') ?? 0) * 1_000;
  return {
    name,
    version,
    holdsForMs: hold > 0 ? hold : null,
    findings: [
      ...settingFindings(version, settings, admin),
      ...modeFindings(config, settings, rows, users),
      ...shownFindings(config, rows.map(shownDatabase), held),
      ...(await fileFindings(config, rows.map(shownDatabase))),
    ],
  };
}

/** The rows of SHOW CONFIG, by key. */
export const settingsOf = (rows: readonly ShowRow[]): ReadonlyMap<string, string> =>
  new Map(rows.map((row) => [row['key'] ?? '', row['value'] ?? '']));

/** Somebody gave PAUSE or SUSPEND without a database. Versions without SHOW STATE cannot tell: false. */
export async function wholeIsHeld(admin: AdminConsole, signal: AbortSignal): Promise<boolean> {
  try {
    const state = await admin.command('SHOW STATE', signal);
    return state.some(
      (row) => (row['key'] === 'paused' || row['key'] === 'suspended') && row['value'] === 'yes',
    );
  } catch (error) {
    if (error instanceof VerdigrisError && error.code === 'PROXY_UNEXPECTED') return false;
    throw error;
  }
}

const block = (text: string, remedy: string): Finding => ({ level: 'block', text, remedy });
const warn = (text: string, remedy: string): Finding => ({ level: 'warn', text, remedy });

function settingFindings(
  version: string,
  settings: ReadonlyMap<string, string>,
  admin: AdminConsole,
): Finding[] {
  const findings: Finding[] = [];
  const numbers = /(\d+)\.(\d+)/.exec(version);
  const [major, minor] = [Number(numbers?.[1] ?? 0), Number(numbers?.[2] ?? 0)];
  if (major < PREPARED_SINCE[0] || (major === PREPARED_SINCE[0] && minor < PREPARED_SINCE[1])) {
    findings.push(
      warn(
        `${version} does not carry prepared statements to a new server`,
        'Use PgBouncer 1.21 or newer, or clients without prepared statements.',
      ),
    );
  } else if (settings.get('max_prepared_statements') === '0') {
    findings.push(
      warn(
        'max_prepared_statements is 0: prepared statements of clients are lost at the switch',
        'Set max_prepared_statements to 100 or more and RELOAD, or use clients without prepared statements.',
      ),
    );
  }
  const admins = (settings.get('admin_users') ?? '').split(/[\s,]+/);
  if (!admins.includes(admin.user) && admin.user !== 'pgbouncer') {
    findings.push(
      block(
        `${admin.user} is not one of admin_users: it may look but not PAUSE`,
        `Add ${admin.user} to admin_users and RELOAD.`,
      ),
    );
  }
  if (settings.get('so_reuseport') === '1') {
    findings.push(
      warn(
        'so_reuseport is on: other processes may serve the same port',
        'Give every process an entry of its own under cutover.proxies, with its own admin address.',
      ),
    );
  }
  return findings;
}

/** The mode of a pool is that of its user, else of its database, else the general one; its limit that of its database, else the general one. */
function modeFindings(
  config: PgBouncerConfig,
  settings: ReadonlyMap<string, string>,
  rows: readonly ShowRow[],
  users: readonly ShowRow[],
): Finding[] {
  const findings: Finding[] = [];
  const remedy = 'Set pool_mode = transaction: in session mode a pause waits until every client disconnects.';
  for (const row of rows) {
    if (!config.databases.includes(row['name'] ?? '')) continue;
    const mode = row['pool_mode'] ?? settings.get('pool_mode') ?? 'session';
    if (mode !== 'transaction')
      findings.push(block(`database ${row['name'] ?? ''}: pool_mode is ${mode}`, remedy));
    // The pause bars new server connections by the general limit, which does not reach this one.
    if ((row['max_connections'] ?? '0') !== (settings.get('max_db_connections') ?? '0')) {
      findings.push(
        warn(
          `database ${row['name'] ?? ''} has a limit of connections of its own: a login that begins in the moment of the pause fails, and statements with it`,
          'Write max_db_connections in [pgbouncer] instead of the entry of the database and RELOAD, or switch while its pool is not filling.',
        ),
      );
    }
  }
  for (const user of users) {
    const mode = user['pool_mode'] ?? null;
    if (mode === 'session') findings.push(warn(`user ${user['name'] ?? ''} has pool_mode ${mode}`, remedy));
  }
  return findings;
}

function shownFindings(config: PgBouncerConfig, shown: readonly Shown[], held: boolean): Finding[] {
  const findings: Finding[] = [];
  for (const name of config.databases) {
    const database = shown.find((candidate) => candidate.name === name);
    if (!database) {
      findings.push(
        block(`PgBouncer knows no database ${name}`, 'Add its entry to the ini file and RELOAD.'),
      );
      continue;
    }
    if (database.paused)
      findings.push(
        block(
          `database ${name} is paused already`,
          `Find out who paused it; RESUME ${name} on the admin console.`,
        ),
      );
    if (database.disabled)
      findings.push(block(`database ${name} is disabled`, `ENABLE ${name} on the admin console.`));
    if (sideOf(database, config) === null) {
      findings.push(
        block(
          `${place(database)} is neither blue nor green of the configuration`,
          'Write host, port and dbname of both sides exactly as in the ini file.',
        ),
      );
    }
  }
  if (held) {
    findings.push(
      block(
        'the whole PgBouncer is paused or suspended',
        'Find out who did it; RESUME on the admin console.',
      ),
    );
  }
  return findings;
}

/** What RELOAD would do now must be nothing: else the switch would also apply somebody's unfinished change. */
async function fileFindings(config: PgBouncerConfig, shown: readonly Shown[]): Promise<Finding[]> {
  try {
    const why = await whyNotReplaceable(config.ini);
    const findings =
      why === null
        ? []
        : [
            block(
              `the ini file ${config.ini} cannot be replaced: ${why}`,
              'Run as the owner of the file or as root, with a writable directory.',
            ),
          ];
    const entries = databaseEntries(await readIni(config.ini));
    for (const name of config.databases) {
      const own = entries.filter((entry) => entry.name === name);
      if (own.length === 0)
        findings.push(
          block(
            `the ini file ${config.ini} has no entry for database ${name}`,
            'Name the file that holds it.',
          ),
        );
      for (const entry of own) {
        if (connectValue(connectPairs(entry), 'connect_query') !== undefined) {
          findings.push(
            warn(
              `database ${name} has a connect_query: its errors are ignored and one client's DISCARD ALL undoes its settings for all`,
              'Use ALTER ROLE … IN DATABASE … SET instead.',
            ),
          );
        }
      }
    }
    for (const entry of entries) {
      const database = shown.find((candidate) => candidate.name === entry.name);
      const pairs = connectPairs(entry);
      const port = connectValue(pairs, 'port') ?? '5432';
      const same =
        entry.name === '*' ||
        (database !== undefined &&
          (connectValue(pairs, 'host') ?? null) === database.host &&
          port === String(database.port) &&
          (connectValue(pairs, 'dbname') ?? entry.name) === database.dbname);
      if (same) continue;
      const text = `line ${entry.line} of ${config.ini} (${entry.name}) is not what PgBouncer uses now`;
      const remedy = 'Is it the file that this process reads? Correct it or RELOAD, so that both agree.';
      findings.push(config.databases.includes(entry.name) ? block(text, remedy) : warn(text, remedy));
    }
    return findings;
  } catch (error) {
    const { message, remedy } = asVerdigrisError(error);
    return [block(message, remedy)];
  }
}
