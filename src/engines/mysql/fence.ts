import { setTimeout as delay } from 'node:timers/promises';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { FenceState, WriteFence } from '../../core/fence.ts';
import type { Position } from '../../core/position.ts';
import type { TableName } from '../../core/table.ts';
import type { MysqlConfig } from './config.ts';
import { connect, type Link } from './connect.ts';
import { errnoOf, translate } from './errors.ts';
import { changeRecord, owner, readRecord, recordTable } from './fence-record.ts';
import {
  lockableAccounts,
  openWriters,
  otherSessions,
  preparedTransactions,
  privilegedAccounts,
} from './fence-writers.ts';
import { positionOf } from './position.ts';
import { end } from './sessions.ts';
import { literal } from './sql.ts';
import { executedGtids } from './source-log.ts';
import { prepareState } from './state-tables.ts';

export interface FenceOptions {
  readonly config: MysqlConfig;
  readonly env: SessionEnv;
  readonly tables: readonly TableName[];
}

/** Bound of one administrative act that is not given a budget. */
const ACT_MS = 30_000;

/**
 * Stops the writes of a whole server by `read_only`, which our own account passes and nobody else's may.
 *
 * The record says what the server is meant to be; every act brings the two together, so an act that died half-way is finished or undone
 * by the next one.
 */
export function createFence(options: FenceOptions): WriteFence {
  return new Fence(options);
}

class Fence implements WriteFence {
  readonly #config: MysqlConfig;
  readonly #env: SessionEnv;

  constructor(options: FenceOptions) {
    this.#config = options.config;
    this.#env = options.env;
  }

  async prepare(): Promise<void> {
    await this.#act(async (link) => {
      await prepareState(link, this.#env.stateSchema);
      await link.run(
        `INSERT IGNORE INTO ${recordTable(this.#env)} (id, state, epoch, changed) VALUES (${literal(this.#env.migration)}, 'open', 0, UTC_TIMESTAMP(6))`,
      );
      // A server that was started anew with a raised or sealed record must be closed again.
      const row = await readRecord(link, this.#env);
      if (row !== null && row.state !== 'open') await this.#readOnly(link, true);
    });
  }

  async raise(epoch: number, timeoutMs: number): Promise<Position> {
    const deadline = performance.now() + timeoutMs;
    return await this.#act(async (link) => {
      const row = await readRecord(link, this.#env);
      if (row === null) throw this.#unprepared();
      if (row.state === 'sealed')
        throw new VerdigrisError('CUTOVER_PHASE', `${this.#env.side} is sealed with epoch ${row.epoch}`, {
          context: { epoch, sealed: row.epoch },
        });
      if (row.epoch > epoch) throw this.#stale('raise', epoch, row.epoch);
      if (row.state === 'raised' && row.epoch === epoch && row.barrier !== null && (await isReadOnly(link)))
        return positionOf(row.barrier);
      await this.#refusePrepared(link);
      const wasOpen = row.state === 'open';
      try {
        return await this.#close(link, epoch, deadline);
      } catch (error) {
        if (wasOpen && !link.lost) await this.#undo(link, epoch);
        throw error;
      }
    }, timeoutMs + 5_000);
  }

  async #close(link: Link, epoch: number, deadline: number): Promise<Position> {
    const { failpoints } = this.#env;
    await this.#readOnly(link, true, deadline);
    await failpoints.hit('fence.raise.read_only');
    await this.#endOthers(link, deadline);
    // The record is the last thing that anybody writes before the barrier: it is in the log, so a stream that has seen it has seen all.
    const raised = await changeRecord(link, this.#env, {
      set: `state = 'raised', epoch = ${epoch}, barrier = NULL`,
      when: `state <> 'sealed' AND epoch <= ${epoch}`,
    });
    if (!raised) throw this.#stale('raise', epoch, epoch);
    await failpoints.hit('fence.raise.recorded');
    const barrier = await this.#barrier(link);
    await changeRecord(link, this.#env, {
      set: `barrier = ${literal(barrier)}`,
      when: `state = 'raised' AND epoch = ${epoch}`,
    });
    await failpoints.hit('fence.raise.committed');
    return positionOf(barrier);
  }

  /**
   * Everything that others will ever have written before the fence: setting read_only has waited for the commits that were under way, and
   * refuses later ones. What we write ourselves meanwhile is no change of the application's.
   */
  async #barrier(link: Link): Promise<string> {
    await this.#refusePrepared(link);
    return await executedGtids(link);
  }

  async #undo(link: Link, epoch: number): Promise<void> {
    await changeRecord(link, this.#env, {
      set: `state = 'open', barrier = NULL`,
      when: `state = 'raised' AND epoch = ${epoch}`,
    }).catch(() => false);
    const row = await readRecord(link, this.#env).catch(() => null);
    if (row?.state === 'open') await this.#readOnly(link, false).catch(() => undefined);
  }

  /** An ordinary account must be refused. Ours is none, so what it means to be one is read from the server. */
  async prove(): Promise<void> {
    await this.#act(async (link) => {
      await this.#mend(link);
      if (!(await isReadOnly(link))) throw leak(this.#env.side, 'the server is not read_only');
      const accounts = await privilegedAccounts(link);
      if (accounts === null) throw leak(this.#env.side, 'the accounts that pass read_only cannot be listed');
      const others = new Set(await otherSessions(link));
      if (accounts.length > 0 && others.size > 0) {
        const users = await link.rows(
          `SELECT DISTINCT USER FROM information_schema.PROCESSLIST WHERE ID IN (${[...others].join(',')})`,
        );
        const inside = users
          .map(([user]) => user as string)
          .filter((user) => accounts.some((account) => account.startsWith(`'${user}'@`)));
        if (inside.length > 0)
          throw leak(
            this.#env.side,
            `a session of ${inside.join(', ')} is open, which may write to a read_only server`,
          );
      }
      await this.#refusePrepared(link);
    });
  }

  async blockers(): Promise<readonly string[]> {
    return await this.#act(async (link) => {
      const prepared = await preparedTransactions(link);
      const first = await openWriters(link);
      if (first.length === 0) return prepared;
      // A refused writer is rolled back at once; who is still there after a moment is a real one.
      await delay(20);
      const again = new Set((await openWriters(link)).map(({ id }) => id));
      return [...prepared, ...first.filter(({ id }) => again.has(id)).map(({ describe }) => describe)];
    });
  }

  async kill(olderThanMs: number): Promise<number> {
    return await this.#act(async (link) => {
      let ended = 0;
      for (const writer of await openWriters(link)) {
        if (writer.ageMs < olderThanMs) continue;
        await end(link, writer.id);
        ended += 1;
      }
      return ended;
    });
  }

  async seal(epoch: number): Promise<boolean> {
    return await this.#act(async (link) => {
      if ((await readRecord(link, this.#env)) === null) return false;
      await this.#env.failpoints.hit('fence.seal.before_commit');
      const sealed = await changeRecord(link, this.#env, {
        set: `state = 'sealed'`,
        when: `state = 'raised' AND epoch = ${epoch}`,
      });
      await this.#env.failpoints.hit('fence.seal.committed');
      return sealed;
    });
  }

  async lower(epoch: number): Promise<boolean> {
    return await this.#act(async (link) => {
      if ((await readRecord(link, this.#env)) === null) return false;
      await this.#env.failpoints.hit('fence.lower.before_commit');
      const lowered = await changeRecord(link, this.#env, {
        set: `state = 'open', barrier = NULL`,
        when: `state = 'raised' AND epoch = ${epoch}`,
      });
      if (lowered) await this.#readOnly(link, false);
      return lowered;
    });
  }

  async open(epoch: number): Promise<void> {
    await this.#act(async (link) => {
      const row = await readRecord(link, this.#env);
      if (row === null) throw this.#unprepared();
      const opened = await changeRecord(link, this.#env, {
        set: `state = 'open', epoch = ${epoch}, barrier = NULL`,
        when: `epoch <= ${epoch}`,
      });
      // An engine that was stopped for long must not open a side that a later decision has closed.
      if (!opened) throw this.#stale('open', epoch, row.epoch);
      await this.#readOnly(link, false);
    });
  }

  async state(): Promise<FenceState> {
    const row = await this.#act(async (link) => {
      const found = await readRecord(link, this.#env);
      if (found !== null && found.state !== 'open') await this.#mend(link);
      return found;
    });
    return row === null ? { state: 'open', epoch: 0 } : { state: row.state, epoch: row.epoch };
  }

  async retire(): Promise<void> {
    await this.#act(async (link) => {
      const row = await readRecord(link, this.#env);
      if (row === null) return;
      if (row.state !== 'open') await this.#readOnly(link, false);
      await link.run(`DELETE FROM ${recordTable(this.#env)} WHERE ${owner(this.#env)}`);
    });
  }

  /** Persisted, so that a restart of the server does not open it. MariaDB cannot: there accounts are locked, which lasts. */
  async #readOnly(link: Link, on: boolean, deadline = performance.now() + ACT_MS): Promise<void> {
    const persisted = link.flavour === 'mysql' ? 'PERSIST' : 'GLOBAL';
    if (on) {
      await bounded(link, deadline, () => link.run(`SET ${persisted} read_only = ON`), this.#env.side);
      if (link.flavour === 'mariadb') await this.#lockAccounts(link);
      return;
    }
    if (link.flavour === 'mariadb') await this.#unlockAccounts(link);
    await bounded(link, deadline, () => link.run(`SET ${persisted} read_only = OFF`), this.#env.side);
    if (link.flavour === 'mysql') await link.run('RESET PERSIST IF EXISTS read_only');
  }

  /** What is going to be locked is written down first, so that whoever undoes it knows. */
  async #lockAccounts(link: Link): Promise<void> {
    const accounts = await lockableAccounts(link);
    if (accounts.length === 0) return;
    const all = [...new Set([...(await this.#lockedAccounts(link)), ...accounts])];
    await changeRecord(link, this.#env, { set: `detail = ${literal(JSON.stringify(all))}`, when: 'TRUE' });
    for (const account of accounts) await link.run(`ALTER USER IF EXISTS ${account} ACCOUNT LOCK`);
  }

  async #unlockAccounts(link: Link): Promise<void> {
    for (const account of await this.#lockedAccounts(link))
      await link.run(`ALTER USER IF EXISTS ${account} ACCOUNT UNLOCK`);
    await changeRecord(link, this.#env, { set: 'detail = NULL', when: 'TRUE' });
  }

  async #lockedAccounts(link: Link): Promise<readonly string[]> {
    const detail = await link.value(`SELECT detail FROM ${recordTable(this.#env)} WHERE ${owner(this.#env)}`);
    return detail === null ? [] : (JSON.parse(detail) as string[]);
  }

  /**
   * A server that lost read_only in a restart, while its record says that it is closed, is closed again: MariaDB, and MySQL that was
   * started without its own option files.
   */
  async #mend(link: Link): Promise<void> {
    if (await isReadOnly(link)) return;
    const row = await readRecord(link, this.#env);
    if (row !== null && row.state !== 'open') await this.#readOnly(link, true);
  }

  /** Sessions that are open keep what they have begun; a transaction of theirs fails at its COMMIT, and its locks go with it. */
  async #endOthers(link: Link, deadline: number): Promise<void> {
    if (!this.#config.fence.end_sessions) return;
    for (;;) {
      const others = await otherSessions(link);
      for (const id of others) await link.run(`KILL ${id}`).catch(() => undefined);
      if (others.length === 0) return;
      // New ones may come all the time: they cannot write. Only those that write count.
      if ((await openWriters(link)).length === 0) return;
      if (performance.now() > deadline)
        throw new VerdigrisError('CUTOVER_UNDONE', `Sessions on ${this.#env.side} did not end in time.`);
      await delay(5);
    }
  }

  async #refusePrepared(link: Link): Promise<void> {
    const prepared = await preparedTransactions(link);
    if (prepared.length === 0) return;
    throw new VerdigrisError(
      'CUTOVER_FENCE_LEAKS',
      `${this.#env.side} holds ${prepared.length} prepared XA transactions, whose COMMIT passes a read-only server.`,
      { remedy: 'End them with XA COMMIT or XA ROLLBACK, then try again.' },
    );
  }

  #unprepared(): VerdigrisError {
    return new VerdigrisError('CUTOVER_PHASE', `The fence of ${this.#env.side} is not prepared.`);
  }

  #stale(act: string, epoch: number, stored: number): VerdigrisError {
    return new VerdigrisError(
      'CUTOVER_PHASE',
      `The fence of ${this.#env.side} cannot ${act} with epoch ${epoch}: epoch ${stored} stands there.`,
      { context: { epoch, stored } },
    );
  }

  /** A connection of its own: acts may run at the same time, from several processes. After `limitMs` it is cut. */
  async #act<T>(work: (link: Link) => Promise<T>, limitMs = ACT_MS): Promise<T> {
    let link: Link | null = null;
    let cut: NodeJS.Timeout | undefined;
    try {
      const used = await connect(this.#config, {
        name: `verdigris:${this.#env.migration}:fence`,
        where: 'state',
        connectTimeoutMs: Math.min(limitMs, 10_000),
        settings: { lock_wait_timeout: '30', innodb_lock_wait_timeout: '10' },
      });
      link = used;
      cut = setTimeout(() => used.destroy(), limitMs);
      return await work(used);
    } catch (error) {
      throw this.#translate(error);
    } finally {
      clearTimeout(cut);
      await link?.[Symbol.asyncDispose]();
    }
  }

  #translate(error: unknown): VerdigrisError {
    const translated = translate(error, 'state', { act: 'fence', side: this.#env.side });
    if (translated.code !== 'SINK_PRIVILEGE') return translated;
    return new VerdigrisError(
      'SINK_PRIVILEGE',
      `The fence on ${this.#env.side} is not permitted: ${translated.message}`,
      {
        remedy:
          'GRANT SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN, CONNECTION_ADMIN, PROCESS (MariaDB: READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS) to our account.',
        context: translated.context,
      },
    );
  }
}

async function isReadOnly(link: Link): Promise<boolean> {
  return (await link.value('SELECT @@global.read_only')) === '1';
}

/** read_only waits for transactions that have table locks; a wait past the budget is given up. */
async function bounded<T>(link: Link, deadline: number, work: () => Promise<T>, side: string): Promise<T> {
  const seconds = Math.max(1, Math.ceil((deadline - performance.now()) / 1000));
  await link.run(`SET SESSION lock_wait_timeout = ${seconds}`);
  try {
    return await work();
  } catch (error) {
    if (errnoOf(error) !== 1205) throw error;
    throw new VerdigrisError(
      'CUTOVER_FENCE_LEAKS',
      `${side} could not be closed in time: somebody holds a lock on its tables.`,
    );
  }
}

const leak = (side: string, why: string): VerdigrisError =>
  new VerdigrisError('CUTOVER_FENCE_LEAKS', `The fence does not hold ${side}: ${why}.`);
