import { randomBytes } from 'node:crypto';
import { VerdigrisError } from '../../core/errors.ts';
import { connect, statementTimeout, type Link } from './connect.ts';
import { translate } from './errors.ts';
import { leaseGuard, sessionName } from './lease.ts';
import { end, registerSession } from './sessions.ts';
import { literal } from './sql.ts';
import { tableOf, type SinkStream } from './sink-storage.ts';

/** Seconds that a session of ours may be silent before the server ends it: an engine that is frozen must not hold locks for ever. */
const SILENT_SECONDS = { apply: 300, chunk: 900, finish: 28_800 } as const;

export async function openSinkLink(stream: SinkStream, purpose: keyof typeof SILENT_SECONDS): Promise<Link> {
  const { config, env, options } = stream;
  const link = await connect(config, {
    name: sessionName(env.migration, purpose, options.term),
    where: 'sink',
    settings: {
      // Gaps are not locked: the rows of a chunk and those of the stream never wait for one another.
      transaction_isolation: "'READ-COMMITTED'",
      // Green's own keys and cascades must not act on rows that come one after the other.
      foreign_key_checks: '0',
      unique_checks: '1',
      innodb_lock_wait_timeout: '10',
      lock_wait_timeout: purpose === 'finish' ? '10' : '30',
      wait_timeout: String(SILENT_SECONDS[purpose]),
    },
  });
  // A long list of keys is to be looked up key by key: it is not to end the lookup by index, nor to become a table that is joined.
  await link.run(
    link.flavour === 'mysql'
      ? 'SET SESSION range_optimizer_max_mem_size = 0'
      : 'SET SESSION in_predicate_conversion_threshold = 0',
  );
  // Before the first preparation there is no table to note it in; `prepare` does it again.
  await registerSession(link, { ...env, term: options.term }).catch(() => undefined);
  if (purpose !== 'finish') {
    const ms = statementTimeout(config);
    // On MySQL the bound is for SELECT only, on MariaDB for every statement.
    await link.run(
      link.flavour === 'mysql'
        ? `SET SESSION max_execution_time = ${ms}`
        : `SET SESSION max_statement_time = ${ms / 1000}`,
    );
  }
  return link;
}

/**
 * Begins a transaction that is not a group's: the guard of the lease, and a row written and removed again by which a reader of this
 * server's log knows that the transaction is ours.
 */
export async function beginGuarded(link: Link, stream: SinkStream): Promise<void> {
  const { env, options } = stream;
  await link.run('START TRANSACTION');
  await link.rows(leaseGuard(env.stateSchema, env.migration, options.term));
  const token = literal(randomBytes(12).toString('hex'));
  const own = tableOf(stream, 'own');
  await link.run(`INSERT INTO ${own} (id, token) VALUES (${literal(env.migration)}, ${token})`);
  await link.run(`DELETE FROM ${own} WHERE id = ${literal(env.migration)} AND token = ${token}`);
}

export async function guarded(link: Link, stream: SinkStream, work: () => Promise<void>): Promise<void> {
  await beginGuarded(link, stream);
  try {
    await work();
    await link.run('COMMIT');
  } catch (error) {
    if (!link.lost) await link.run('ROLLBACK').catch(() => link.destroy());
    throw error;
  }
}

/**
 * Sessions whose connection was lost. The server may still run what it had received, a COMMIT included; they are ended before any
 * state is read.
 */
export class Ghosts {
  readonly #ids = new Set<number>();

  add(link: Link): void {
    this.#ids.add(link.id);
  }

  async end(link: Link): Promise<void> {
    for (const id of this.#ids) {
      await end(link, id);
      this.#ids.delete(id);
    }
  }
}

/** One of ours; what is known here is added to what the error says already. */
export function sinkError(error: unknown, context: Readonly<Record<string, unknown>> = {}): VerdigrisError {
  if (!(error instanceof VerdigrisError)) return translate(error, 'sink', context);
  return new VerdigrisError(error.code, error.message, {
    context: { ...context, ...error.context },
    remedy: error.remedy,
    directive: error.directive,
    cause: error.cause,
  });
}
