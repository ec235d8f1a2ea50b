import { VerdigrisError, type Code } from '../../core/errors.ts';

/** Where an error happened: decides the family of the code. */
export type Where = 'source' | 'sink' | 'state';

interface DriverError {
  readonly code?: string;
  readonly message: string;
  readonly table?: string;
  readonly schema?: string;
  readonly column?: string;
  readonly constraint?: string;
}

const LOST = new Set([
  '57P01',
  '57P02',
  '57P03',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENETUNREACH',
  'EHOSTUNREACH',
]);
const UNREACHABLE = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']);
const TRANSIENT = new Set(['40001', '40P01', '55P03', '57014', '55006']);

/**
 * Translates what `pg` threw, by SQLSTATE or system code. The server's detail is dropped: it quotes row values.
 * SQLSTATE reference: PostgreSQL documentation, appendix A.
 */
export function translate(
  error: unknown,
  where: Where,
  context: Readonly<Record<string, unknown>> = {},
): VerdigrisError {
  if (error instanceof VerdigrisError) return error;
  const driver = error as DriverError;
  const state = driver.code ?? '';
  const facts = {
    ...context,
    ...(state === '' ? {} : { sqlstate: state }),
    ...(driver.table === undefined ? {} : { serverTable: `${driver.schema ?? ''}.${driver.table}` }),
    ...(driver.column === undefined ? {} : { column: driver.column }),
    ...(driver.constraint === undefined ? {} : { constraint: driver.constraint }),
  };
  return new VerdigrisError(codeOf(state, driver.message, where), safeMessage(state, driver), {
    context: facts,
    cause: undefined,
  });
}

function codeOf(state: string, message: string, where: Where): Code {
  const source = where === 'source';
  if (UNREACHABLE.has(state) || state.startsWith('28')) return source ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
  if (
    LOST.has(state) ||
    state.startsWith('08') ||
    /Connection terminated|connection error|not queryable/i.test(message)
  ) {
    return source ? 'SOURCE_LOST' : 'SINK_LOST';
  }
  if (state === '42501') return source ? 'SOURCE_PRIVILEGE' : 'SINK_PRIVILEGE';
  if (source) return state === '55006' ? 'SOURCE_BUSY' : 'SOURCE_FAILED';
  if (state === '22012') return 'SINK_FENCED';
  if (TRANSIENT.has(state)) return 'SINK_TRANSIENT';
  if (state === '53100' || state === '53200') return 'SINK_FULL';
  if (state.startsWith('23')) return 'SINK_CONFLICT';
  return where === 'state' ? 'STATE_FAILED' : 'SINK_FAILED';
}

/** Data exceptions (class 22) and constraint errors quote values in their message; those get a text of ours. */
function safeMessage(state: string, driver: DriverError): string {
  if (state.startsWith('22') && state !== '22012') return `the server refused a value (SQLSTATE ${state})`;
  if (state.startsWith('23'))
    return `a constraint was violated (SQLSTATE ${state}${driver.constraint ? `, ${driver.constraint}` : ''})`;
  return driver.message;
}
