import pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const rawText: pg.CustomTypesConfig = { getTypeParser: () => (value: string) => value };

/**
 * One statement over a fresh client connection, first cell of the first row as text.
 * @throws VerdigrisError PROXY_UNEXPECTED with the server's SQLSTATE
 */
export async function queryAsClient(url: string, sql: string, signal: AbortSignal): Promise<string | null> {
  const client = new pg.Client({
    connectionString: url,
    types: rawText,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  });
  client.on('error', () => undefined);
  const stop = (): void => void client.end().catch(() => undefined);
  signal.addEventListener('abort', stop, { once: true });
  try {
    signal.throwIfAborted();
    await client.connect();
    const query: pg.QueryArrayConfig = { text: sql, rowMode: 'array' };
    const { rows } = await client.query<(string | null)[]>(query);
    return rows[0]?.[0] ?? null;
  } catch (error) {
    signal.throwIfAborted();
    const state = (error as { readonly code?: string }).code ?? 'no answer';
    throw new VerdigrisError('PROXY_UNEXPECTED', `A query through the proxy failed (${state}).`, {
      context: { state },
    });
  } finally {
    signal.removeEventListener('abort', stop);
    await client.end().catch(() => undefined);
  }
}
