import { MongoError, MongoNetworkError, MongoServerError, MongoServerSelectionError } from 'mongodb';
import { VerdigrisError, type Code } from '../../core/errors.ts';

/** Where an error happened: decides the family of the code. */
export type Where = 'source' | 'sink' | 'state';

/** Error codes of the server (src/mongo/base/error_codes.yml). */
export const SERVER_CODE = {
  unauthorized: 13,
  authenticationFailed: 18,
  cursorNotFound: 43,
  namespaceNotFound: 26,
  indexNotFound: 27,
  namespaceExists: 48,
  maxTimeExpired: 50,
  documentValidation: 121,
  writeConflict: 112,
  conflictingOperation: 117,
  snapshotUnavailable: 246,
  snapshotTooOld: 239,
  historyLost: 286,
  changeStreamFatal: 280,
  cappedPositionLost: 136,
  tooLarge: 10_334,
  duplicateKey: 11_000,
  userWritesBlocked: 371,
  outOfDiskSpace: 14_031,
  /** Seen on 8.2; in write errors of a reply too. */
  transactionTooLargeForCache: 388,
  /** The cache gave a transaction up, at a write or at the commit; the message then has the storage engine's -31800. Seen on 8.2. */
  temporarilyUnavailable: 365,
} as const;

/** There is no room for a transaction in the server's cache. */
export const TOO_LARGE: ReadonlySet<number> = new Set([
  SERVER_CODE.transactionTooLargeForCache,
  SERVER_CODE.temporarilyUnavailable,
]);

/** The node is going, is no primary any more, or was told to stop: the driver's own lists plus what ends cursors. */
const LOST = new Set([
  6, 7, 89, 91, 189, 262, 9001, 10_107, 11_600, 11_602, 13_435, 13_436, 43, 237, 11_601, 175, 317,
]);
/** LockTimeout, WriteConflict, NoSuchTransaction, TransactionTooOld, snapshot no longer there, cache pressure (two), LockBusy. */
const TRANSIENT = new Set([24, 46, 112, 225, 239, 246, 251, 290, 365, 388]);

export const codeOfError = (error: unknown): number | null =>
  error instanceof MongoServerError && typeof error.code === 'number' ? error.code : null;

/** Translates what the driver threw, by its code. Messages of write errors are dropped: they quote keys. */
export function translate(
  error: unknown,
  where: Where,
  context: Readonly<Record<string, unknown>> = {},
): VerdigrisError {
  if (error instanceof VerdigrisError) return error;
  const code = codeOfError(error);
  const facts = { ...context, ...(code === null ? {} : { serverCode: code }) };
  return new VerdigrisError(classify(error, code, where), safeMessage(error, code), { context: facts });
}

function classify(error: unknown, code: number | null, where: Where): Code {
  const source = where === 'source';
  if (code === null) {
    if (error instanceof MongoServerSelectionError) return source ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
    if (error instanceof MongoNetworkError || isGone(error) || isOfSystem(error))
      return source ? 'SOURCE_LOST' : 'SINK_LOST';
    return source ? 'SOURCE_FAILED' : where === 'state' ? 'STATE_FAILED' : 'SINK_FAILED';
  }
  if (code === SERVER_CODE.unauthorized) return source ? 'SOURCE_PRIVILEGE' : 'SINK_PRIVILEGE';
  if (code === SERVER_CODE.authenticationFailed) return source ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
  if (LOST.has(code)) return source ? 'SOURCE_LOST' : 'SINK_LOST';
  if (source) return sourceCode(code);
  if (TRANSIENT.has(code) || hasLabel(error, 'TransientTransactionError')) return 'SINK_TRANSIENT';
  if (code === SERVER_CODE.outOfDiskSpace) return 'SINK_FULL';
  if (code === SERVER_CODE.duplicateKey || code === SERVER_CODE.documentValidation) return 'SINK_CONFLICT';
  return where === 'state' ? 'STATE_FAILED' : 'SINK_FAILED';
}

function sourceCode(code: number): Code {
  switch (code) {
    case SERVER_CODE.historyLost:
    case SERVER_CODE.changeStreamFatal:
    case SERVER_CODE.cappedPositionLost:
      return 'SOURCE_POSITION_LOST';
    case SERVER_CODE.tooLarge:
      return 'SOURCE_PROTOCOL';
    default:
      return TRANSIENT.has(code) ? 'SOURCE_BUSY' : 'SOURCE_FAILED';
  }
}

export const hasLabel = (error: unknown, label: string): boolean =>
  error instanceof MongoError && error.hasErrorLabel(label);

/** The client or the session was closed under an operation. */
const isGone = (error: unknown): boolean =>
  error instanceof Error &&
  /^Mongo(?:NotConnected|TopologyClosed|ExpiredSession|PoolClear\w*|ClientClosed|ConnectionPoolClosed|PoolClosed|PoolCleared)/.test(
    error.name,
  );

/** What a socket threw: the driver lets some of it through as it is. */
const isOfSystem = (error: unknown): boolean =>
  error instanceof Error &&
  'code' in error &&
  typeof error.code === 'string' &&
  /^E[A-Z_]+$/.test(error.code);

function safeMessage(error: unknown, code: number | null): string {
  if (code === SERVER_CODE.duplicateKey) return 'a unique index already holds that key (code 11000)';
  if (code === SERVER_CODE.documentValidation)
    return 'a document fails the validation of its collection (code 121)';
  const message = error instanceof Error ? error.message : String(error);
  // Addresses carry passwords; the driver prints hosts only, but a server's text may repeat what it was given.
  return message.replaceAll(/mongodb(\+srv)?:\/\/\S+/g, 'mongodb://…').slice(0, 500);
}
