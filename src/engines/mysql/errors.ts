import { VerdigrisError, type Code } from '../../core/errors.ts';

/** Where an error happened: decides the family of the code. */
export type Where = 'source' | 'sink' | 'state';

interface DriverError {
  readonly errno?: number;
  readonly code?: string;
  readonly message: string;
}

/** Numbers of the server that the engine looks at, by name of the manual. */
export const ERRNO = {
  DUPLICATE_ENTRY: 1062,
  /** The same of an index that is built beside writers, where the server no longer knows the value. */
  DUPLICATE_UNKNOWN: 1859,
  LOCK_WAIT_TIMEOUT: 1205,
  DEADLOCK: 1213,
  NO_SUCH_TABLE: 1146,
  BAD_DATABASE: 1049,
  BAD_COLUMN: 1054,
  CHECKSUM_POSITION_LOST: 1236,
  READ_ONLY: 1290,
  BAD_VIEW: 1356,
  TABLE_CHANGED: 1412,
  /** `Subquery returns more than 1 row`: how a statement of ours says on the server that its guard failed. */
  GUARD: 1242,
} as const;

const LOST_CODES = new Set([
  'PROTOCOL_CONNECTION_LOST',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'PROTOCOL_SEQUENCE_TIMEOUT',
  'ERR_STREAM_DESTROYED',
  'ERR_STREAM_WRITE_AFTER_END',
]);
const UNREACHABLE = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']);
/** Server gone, killed, shutting down, packets out of order, aborted. */
const LOST = new Set([
  1053, 1077, 1079, 1080, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 3024, 4031,
]);
const REFUSED = new Set([1040, 1044, 1045, 1129, 1130, 1203, 1226, 1698, 1524, 2061, 3118, 3159]);
const PRIVILEGE = new Set([1142, 1143, 1227, 1370, 1410, 3619]);
/** Lock wait, deadlock, query interrupted, table changed under a snapshot, record changed since last read (MariaDB). */
const TRANSIENT = new Set([1205, 1213, 1317, 1412, 1020, 3572, 1969]);
/** Constraints: duplicate, NOT NULL, foreign keys, CHECK. */
const CONSTRAINT = new Set([
  1048, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1761, 1762, 1859, 3819, 4025, 1364,
]);
/** The server refused a value: the message quotes it. */
const VALUE = new Set([
  1264, 1265, 1292, 1366, 1406, 1411, 1416, 1367, 1690, 3140, 3141, 3144, 3156, 1365, 1426, 3618, 3548,
]);
const FULL = new Set([1021, 1037, 1038, 1041, 1114, 1118, 3, 28, 14031]);

export const errnoOf = (error: unknown): number | null => {
  const errno = (error as DriverError | null)?.errno;
  return typeof errno === 'number' && errno > 0 ? errno : null;
};

/** Translates what the driver threw, by the server's error number or the system's code. Messages that quote row values are replaced. */
export function translate(
  error: unknown,
  where: Where,
  context: Readonly<Record<string, unknown>> = {},
): VerdigrisError {
  if (error instanceof VerdigrisError) return error;
  const driver = error as DriverError;
  const errno = errnoOf(error);
  const facts = { ...context, ...(errno === null ? {} : { errno }) };
  return new VerdigrisError(codeOf(driver, errno, where), safeMessage(driver, errno), { context: facts });
}

function codeOf(driver: DriverError, errno: number | null, where: Where): Code {
  const source = where === 'source';
  const code = driver.code ?? '';
  if (UNREACHABLE.has(code) || (errno !== null && REFUSED.has(errno)))
    return source ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
  if (
    LOST_CODES.has(code) ||
    (errno !== null && LOST.has(errno)) ||
    /connection.*(closed|lost)|closed state|handshake|socket/i.test(driver.message)
  )
    return source ? 'SOURCE_LOST' : 'SINK_LOST';
  if (errno !== null && PRIVILEGE.has(errno)) return source ? 'SOURCE_PRIVILEGE' : 'SINK_PRIVILEGE';
  if (source) return errno !== null && TRANSIENT.has(errno) ? 'SOURCE_BUSY' : 'SOURCE_FAILED';
  if (errno === ERRNO.GUARD) return 'SINK_FENCED';
  if (errno !== null && TRANSIENT.has(errno)) return 'SINK_TRANSIENT';
  if (errno !== null && FULL.has(errno)) return 'SINK_FULL';
  if (errno !== null && (CONSTRAINT.has(errno) || VALUE.has(errno))) return 'SINK_CONFLICT';
  return where === 'state' ? 'STATE_FAILED' : 'SINK_FAILED';
}

function safeMessage(driver: DriverError, errno: number | null): string {
  if (errno !== null && CONSTRAINT.has(errno)) {
    const constraint = constraintOf(driver);
    return `a constraint was violated (error ${errno}${constraint === null ? '' : `, ${constraint}`})`;
  }
  if (errno !== null && VALUE.has(errno)) return `the server refused a value (error ${errno})`;
  return driver.message;
}

/** Values are quoted before it, so only the end of a message is looked at. */
const CONSTRAINTS = [
  /for key '([^']*)'$/,
  /^Check constraint '([^']*)' is violated\.$/,
  /^CONSTRAINT `([^`]*)` failed for /,
];

/** The index or the check that a row violates. */
export function constraintOf(error: unknown): string | null {
  const { message } = error as DriverError;
  for (const pattern of CONSTRAINTS) {
    const match = pattern.exec(message);
    if (match !== null) return match[1] ?? null;
  }
  return null;
}

const COLUMNS = [
  /for column ['`](?:[^'`]*`\.`[^'`]*`\.`|[^'`.]*\.)?([^'`]+)['`](?: at row \d+|\.)?$/,
  /^Column '([^']+)' cannot be null$/,
  /^Field '([^']+)' doesn't have a default value$/,
];

/** The column that the message of the server ends with; null when it names none of these. */
export function columnOf(error: unknown, known: ReadonlySet<string>): string | null {
  const message = (error as { readonly message?: string | null }).message ?? '';
  for (const pattern of COLUMNS) {
    const name = pattern.exec(message)?.[1];
    if (name !== undefined && known.has(name)) return name;
  }
  return null;
}
