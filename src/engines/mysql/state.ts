import { VerdigrisError } from '../../core/errors.ts';
import type { SessionEnv } from '../../core/engine.ts';
import { PHASES, type JournalEvent, type Phase, type RunRecord, type StateStore } from '../../core/state.ts';
import { connect, type Link, type Row } from './connect.ts';
import type { MysqlConfig } from './config.ts';
import { errnoOf, ERRNO, translate } from './errors.ts';
import { leaseGuard } from './lease.ts';
import { endOlderTerms } from './sessions.ts';
import { literal } from './sql.ts';
import { transact } from './transact.ts';
import { STATE_TABLES, stateTable } from './state-names.ts';
import { dropState, prepareState, presentTables } from './state-tables.ts';
import { MysqlVerificationStore } from './verification.ts';

/** How long one try to raise the term waits for transactions of the old one, seconds. */
const TAKEOVER_LOCK_SECONDS = 1;
const TAKEOVER_TRIES = 10;

/** Runs, leases and the journal, beside the data of one side. Its own connection; calls are done one after the other. */
export class MysqlStateStore implements StateStore, AsyncDisposable {
  readonly #config: MysqlConfig;
  readonly #env: SessionEnv;
  readonly verification: MysqlVerificationStore;
  #link: Link | null = null;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: MysqlConfig, env: SessionEnv) {
    this.#config = config;
    this.#env = env;
    this.verification = new MysqlVerificationStore({
      stateSchema: env.stateSchema,
      use: (work) => this.#exclusive(work),
    });
  }

  prepare(): Promise<void> {
    return this.#exclusive((link) => prepareState(link, this.#env.stateSchema));
  }

  acquire(
    id: string,
    holder: string,
    options: { readonly ttlMs: number; readonly takeover: boolean },
  ): Promise<number> {
    return this.#exclusive(async (link) => {
      for (let attempt = 1; ; attempt += 1) {
        const current = (
          await link.rows(
            `SELECT term, holder, expires > UTC_TIMESTAMP(6) FROM ${this.#table('lease')} WHERE id = ${literal(id)}`,
          )
        )[0];
        if (current !== undefined && current[2] === '1' && current[1] !== holder && !options.takeover)
          throw new VerdigrisError('STATE_LEASE_HELD', `Migration ${id} is run by ${current[1]}.`, {
            context: { holder: current[1], term: Number(current[0]) },
          });
        const seen = current === undefined ? 0 : Number(current[0]);
        const term = await this.#raise(link, id, { holder, ttlMs: options.ttlMs, seen });
        if (term !== null) {
          await endOlderTerms(link, { ...this.#env, term });
          return term;
        }
        if (attempt >= TAKEOVER_TRIES)
          throw new VerdigrisError(
            'STATE_LEASE_HELD',
            `The lease of ${id} could not be taken: a session of the old term holds it.`,
          );
        // A frozen holder keeps its lock for ever; its sessions are known by their names.
        await endOlderTerms(link, { ...this.#env, term: seen + 1 });
      }
    });
  }

  /** Compare-and-set on the term; null when somebody else was quicker or still holds the row. */
  async #raise(
    link: Link,
    id: string,
    to: { readonly holder: string; readonly ttlMs: number; readonly seen: number },
  ): Promise<number | null> {
    const { holder, ttlMs, seen } = to;
    const term = seen + 1;
    const expires = `UTC_TIMESTAMP(6) + INTERVAL ${Math.round(ttlMs * 1000)} MICROSECOND`;
    await link.run(`SET SESSION innodb_lock_wait_timeout = ${TAKEOVER_LOCK_SECONDS}`);
    try {
      return await transact(link, async () => {
        const values = `(${literal(id)}, ${term}, ${literal(holder)}, ${Math.round(ttlMs)}, ${expires})`;
        const { affected } =
          seen === 0
            ? await link.run(
                `INSERT INTO ${this.#table('lease')} (id, term, holder, ttl_ms, expires) VALUES ${values}`,
              )
            : await link.run(
                `UPDATE ${this.#table('lease')} SET term = ${term}, holder = ${literal(holder)}, ttl_ms = ${Math.round(ttlMs)}, expires = ${expires}
                 WHERE id = ${literal(id)} AND term = ${seen}`,
              );
        if (affected !== 1) return null;
        await link.run(`REPLACE INTO ${this.#table('term')} (id, term) VALUES (${literal(id)}, ${term})`);
        return term;
      });
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === ERRNO.LOCK_WAIT_TIMEOUT || errno === ERRNO.DUPLICATE_ENTRY || errno === ERRNO.DEADLOCK)
        return null;
      throw error;
    } finally {
      if (!link.lost) await link.run('SET SESSION innodb_lock_wait_timeout = DEFAULT');
    }
  }

  renew(id: string, term: number): Promise<boolean> {
    return this.#exclusive(async (link) => {
      const { affected } = await link.run(
        `UPDATE ${this.#table('lease')} SET expires = UTC_TIMESTAMP(6) + INTERVAL ttl_ms * 1000 MICROSECOND
         WHERE id = ${literal(id)} AND term = ${term}`,
      );
      return affected === 1;
    });
  }

  async release(id: string, term: number): Promise<void> {
    await this.#exclusive((link) =>
      link.run(
        `UPDATE ${this.#table('lease')} SET expires = '1970-01-01' WHERE id = ${literal(id)} AND term = ${term}`,
      ),
    );
  }

  load(id: string): Promise<RunRecord | null> {
    return this.#exclusive(async (link) => {
      if (!(await this.#prepared(link))) return null;
      const rows = await link.rows(
        `SELECT phase, epoch, active_side, plan_hash, detail, revision FROM ${this.#table('run')} WHERE id = ${literal(id)}`,
      );
      return rows[0] === undefined ? null : record(id, rows[0]);
    });
  }

  save(next: RunRecord, term: number): Promise<RunRecord> {
    return this.#exclusive(async (link) => {
      const revision = next.revision + 1;
      const { id, phase, epoch, activeSide, planHash } = next;
      const detail = literal(JSON.stringify(next.detail));
      const saved = await transact(link, async () => {
        await link.rows(leaseGuard(this.#env.stateSchema, id, term));
        if (next.revision === 0) {
          const { affected } = await link.run(
            `INSERT INTO ${this.#table('run')} (id, phase, epoch, active_side, plan_hash, detail, revision) VALUES
             (${literal(id)}, ${literal(phase)}, ${epoch}, ${literal(activeSide)}, ${literal(planHash)}, ${detail}, ${revision})`,
          );
          return affected === 1;
        }
        const { affected } = await link.run(
          `UPDATE ${this.#table('run')} SET phase = ${literal(phase)}, epoch = ${epoch}, active_side = ${literal(activeSide)},
             plan_hash = ${literal(planHash)}, detail = ${detail}, revision = ${revision}, updated = CURRENT_TIMESTAMP(6)
           WHERE id = ${literal(id)} AND revision = ${next.revision}`,
        );
        return affected === 1;
      }).catch((error: unknown) => {
        const errno = errnoOf(error);
        if (errno === ERRNO.GUARD || errno === ERRNO.DUPLICATE_ENTRY) return false;
        throw error;
      });
      if (!saved)
        throw new VerdigrisError(
          'STATE_CONFLICT',
          `The record of ${id} was changed by another engine, or the lease is not ours.`,
          {
            context: { revision: next.revision, term },
          },
        );
      return { ...next, revision };
    });
  }

  async note(id: string, event: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#exclusive((link) =>
      link.run(
        `INSERT INTO ${this.#table('journal')} (id, at, event, detail) VALUES
         (${literal(id)}, UTC_TIMESTAMP(6), ${literal(event)}, ${literal(JSON.stringify(detail))})`,
      ),
    );
  }

  events(id: string, after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#exclusive(async (link) => {
      if (!(await this.#prepared(link))) return [];
      const rows = await link.rows(
        `SELECT sequence, DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%fZ'), event, detail FROM ${this.#table('journal')}
         WHERE id = ${literal(id)} AND sequence > ${Math.trunc(after)} ORDER BY sequence LIMIT ${Math.trunc(limit)}`,
      );
      return rows.map((row) => ({
        sequence: Number(row[0]),
        at: row[1] as string,
        event: row[2] as string,
        detail: JSON.parse(row[3] as string) as Record<string, unknown>,
      }));
    });
  }

  async retire(id: string): Promise<void> {
    await this.#exclusive(async (link) => {
      if (!(await this.#prepared(link))) return;
      const { stateSchema } = this.#env;
      for (const table of STATE_TABLES.filter((one) => one !== 'format'))
        await link.run(`DELETE FROM ${stateTable(stateSchema, table)} WHERE id = ${literal(id)}`);
      const others = await link.rows(
        (['run', 'checkpoint', 'fence', 'marks'] as const)
          .map((table) => `SELECT 1 FROM ${stateTable(stateSchema, table)}`)
          .join(' UNION ALL '),
      );
      if (others.length === 0) await dropState(link, stateSchema);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.catch(() => undefined);
    const link = this.#link;
    this.#link = null;
    await link?.[Symbol.asyncDispose]();
  }

  /** Our tables are there: `plan` and `status` look before anything was made. */
  async #prepared(link: Link): Promise<boolean> {
    return (await presentTables(link, this.#env.stateSchema)).has('run');
  }

  #table(name: Parameters<typeof stateTable>[1]): string {
    return stateTable(this.#env.stateSchema, name);
  }

  #exclusive<T>(work: (link: Link) => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      try {
        return await work(await this.#open());
      } catch (error) {
        throw translate(error, 'state', { schema: this.#env.stateSchema });
      }
    });
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #open(): Promise<Link> {
    if (this.#link !== null && !this.#link.lost) return this.#link;
    this.#link = await connect(this.#config, {
      // No term: a takeover must not end the session of the store that does it.
      name: `verdigris:${this.#env.migration}:state`,
      where: 'state',
      settings: { transaction_isolation: "'READ-COMMITTED'" },
    });
    return this.#link;
  }
}

function record(id: string, row: Row): RunRecord {
  const [phase, epoch, activeSide, planHash, detail, revision] = row as readonly [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  if (!(PHASES as readonly string[]).includes(phase) || (activeSide !== 'blue' && activeSide !== 'green'))
    throw new VerdigrisError(
      'STATE_FORMAT',
      `The record of ${id} holds a phase or side that this version does not know.`,
      {
        context: { phase, activeSide },
      },
    );
  return {
    id,
    phase: phase as Phase,
    epoch: Number(epoch),
    activeSide,
    planHash,
    detail: JSON.parse(detail) as Record<string, unknown>,
    revision: Number(revision),
  };
}
