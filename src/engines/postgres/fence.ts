import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { FenceState, WriteFence } from '../../core/fence.ts';
import type { Position } from '../../core/position.ts';
import { showTable, type TableName } from '../../core/table.ts';
import type { PostgresConfig } from './config.ts';
import { readBlockers, type Blocker } from './fence-blockers.ts';
import { proveFence } from './fence-proof.ts';
import { createRecord, lockRecord, readRecord, recordTable, type FenceRow } from './fence-record.ts';
import { begin, FenceSessions } from './fence-session.ts';
import {
  byTable,
  createSql,
  family,
  guardEvidence,
  guardNames,
  readGuards,
  switchSql,
  wantedGuards,
  type Guard,
  type Member,
} from './guards.ts';
import { positionOf } from './position.ts';
import { MARK_PREFIX } from './source-mark.ts';
import { ident, literal, qualified } from './sql.ts';

export interface FenceOptions {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly tables: readonly TableName[];
  /**
   * Also guard every row (default). Needed where logical apply workers may write; costs on every row our own applier
   * writes, so the side that is being filled may leave them off.
   */
  readonly rowGuards?: boolean;
}

/** The fence; disposing it closes its connections. */
export type PostgresFence = WriteFence & AsyncDisposable;

/** Bound of one administrative act that is not given a budget. */
const ACT_MS = 30_000;
/** How long creating and dropping guards may keep trying on busy tables, in short attempts that hold nobody up. */
const PATIENCE_MS = 60_000;
const ATTEMPT_LOCK_MS = 150;
/** Lock not available, deadlock. */
const BUSY = new Set(['55P03', '40P01']);
/** Lock or statement time-out. */
const OUT_OF_TIME = new Set(['55P03', '57014']);

export function createFence(options: FenceOptions): PostgresFence {
  return new Fence(options);
}

class Fence implements PostgresFence {
  readonly #sessions: FenceSessions;
  readonly #env: SessionEnv;
  readonly #tables: readonly TableName[];
  readonly #rowGuards: boolean;
  readonly #record: string;

  constructor(options: FenceOptions) {
    this.#sessions = new FenceSessions(options.config, options.env);
    this.#env = options.env;
    this.#tables = options.tables;
    this.#rowGuards = options.rowGuards ?? true;
    this.#record = recordTable(options.env);
  }

  async prepare(): Promise<void> {
    const { migration, stateSchema } = this.#env;
    await this.#sessions.run(PATIENCE_MS + ACT_MS, async (client) => {
      await createRecord(client, this.#env, ACT_MS);
      const deadline = performance.now() + PATIENCE_MS;
      const state = (await readRecord(client, this.#env))?.state ?? 'open';
      const names = guardNames(migration);
      const existing = byTable(await readGuards(client, stateSchema, migration));
      for (const member of await family(client, this.#tables)) {
        const have = new Set((existing.get(member.oid) ?? []).map((guard) => guard.name));
        const missing = wantedGuards(member, names, this.#rowGuards).filter((name) => !have.has(name));
        if (missing.length === 0) continue;
        const sql = createSql(member, missing, { schema: stateSchema, migration, enabled: state !== 'open' });
        await this.#patiently(client, member.table, deadline, sql);
      }
    });
  }

  async raise(epoch: number, timeoutMs: number): Promise<Position> {
    const deadline = performance.now() + timeoutMs;
    return this.#sessions.run(timeoutMs + 2_000, async (client) => {
      // A running autovacuum gives way only after this long; the setting needs a privilege and the fence works without it.
      await client.query(`SET deadlock_timeout = '20ms'`).catch(() => undefined);
      await client.query(`SET client_connection_check_interval = '250ms'`).catch(() => undefined);
      for (let attempt = 0; ; attempt += 1) {
        const left = Math.ceil(deadline - performance.now());
        if (left <= 0) throw await this.#blocked(client, timeoutMs);
        try {
          return await this.#raiseOnce(client, { epoch, limitMs: left, shuffle: attempt > 0 });
        } catch (error) {
          await client.query('ROLLBACK');
          const state = (error as { code?: string }).code ?? '';
          if (OUT_OF_TIME.has(state)) throw await this.#blocked(client, timeoutMs);
          if (state !== '40P01') throw error;
          // A client holds one of the tables and waits for another that we hold: let it finish, then lock again.
          await delay(5 + Math.random() * 20);
        }
      }
    });
  }

  async #raiseOnce(
    client: pg.Client,
    { epoch, limitMs, shuffle }: { epoch: number; limitMs: number; shuffle: boolean },
  ): Promise<Position> {
    const { migration, stateSchema, failpoints } = this.#env;
    await begin(client, { limitMs, commit: 'remote_apply' });
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 1000');
    const row = await lockRecord(client, this.#env);
    if (row === null) throw this.#unprepared();
    if (row.state === 'sealed') {
      throw new VerdigrisError('CUTOVER_PHASE', `${this.#env.side} is sealed with epoch ${row.epoch}`, {
        context: { epoch, sealed: Number(row.epoch) },
      });
    }
    if (Number(row.epoch) > epoch) throw this.#stale('raise', epoch, row);
    if (row.state === 'raised' && Number(row.epoch) === epoch && row.barrier !== null) {
      await client.query('ROLLBACK');
      return positionOf(row.barrier);
    }
    const members = await this.#lockAll(client, shuffle);
    const guards = byTable(await readGuards(client, stateSchema, migration));
    await failpoints.hit('fence.raise.locked');
    // One round trip: nobody waits longer for these locks than the server needs.
    const result = (await client.query(
      [
        ...members.flatMap((member) => this.#enableSql(member, guards.get(member.oid) ?? [])),
        `UPDATE ${this.#record} SET state = 'raised', epoch = ${epoch}, changed_at = clock_timestamp(), barrier = ` +
          `pg_logical_emit_message(true, ${literal(MARK_PREFIX)}, ${literal(`fence ${migration} ${epoch}`)})::text ` +
          `WHERE migration = ${literal(migration)} RETURNING barrier`,
        'COMMIT',
      ].join('; '),
    )) as unknown as pg.QueryResult<{ barrier: string }>[];
    await failpoints.hit('fence.raise.committed');
    const barrier = result.at(-2)?.rows[0]?.barrier;
    if (barrier === undefined) throw new VerdigrisError('INTERNAL', 'The fence returned no barrier.');
    return positionOf(barrier);
  }

  /**
   * Locks the family, after a deadlock in another order: clients that lock in the opposite one would win every time. Repeats while a partition that came meanwhile is not locked.
   */
  async #lockAll(client: pg.Client, shuffle: boolean): Promise<readonly Member[]> {
    const locked = new Set<string>();
    for (;;) {
      const members = await family(client, this.#tables);
      const missing = members.filter((member) => !locked.has(member.oid));
      if (missing.length === 0) return members;
      const order = shuffle ? shuffled(missing) : missing;
      const list = order.map((member) => `ONLY ${qualified(member.table)}`).join(', ');
      await client.query(`LOCK TABLE ${list} IN SHARE ROW EXCLUSIVE MODE`);
      for (const member of missing) locked.add(member.oid);
    }
  }

  #enableSql(member: Member, guards: readonly Guard[]): string[] {
    const { migration, stateSchema } = this.#env;
    const have = new Map(guards.map((guard) => [guard.name, guard]));
    const wanted = wantedGuards(member, guardNames(migration), this.#rowGuards);
    const missing = wanted.filter((name) => !have.has(name));
    const off = guards.filter((guard) => guard.enabled !== 'A').map((guard) => guard.name);
    return [
      ...(missing.length === 0
        ? []
        : [createSql(member, missing, { schema: stateSchema, migration, enabled: true })]),
      ...(off.length === 0 ? [] : [switchSql(member.table, off, true)]),
    ];
  }

  async prove(): Promise<void> {
    await this.#sessions.run(ACT_MS, (client) =>
      proveFence(client, { env: this.#env, tables: this.#tables, rowGuards: this.#rowGuards }),
    );
  }

  async blockers(): Promise<readonly string[]> {
    return this.#sessions.run(ACT_MS, async (client) => {
      const first = await readBlockers(client, this.#tables, { ours: false });
      if (first.length === 0) return [];
      // A refused writer holds its lock until its statement has failed; who is still there after a moment is a real one.
      await delay(20);
      const again = new Set(
        (await readBlockers(client, this.#tables, { ours: false })).map((blocker) => blocker.key),
      );
      return first.filter((blocker) => again.has(blocker.key)).map((blocker) => blocker.describe);
    });
  }

  async kill(olderThanMs: number): Promise<number> {
    return this.#sessions.run(ACT_MS, async (client) => {
      let ended = 0;
      for (const blocker of await readBlockers(client, this.#tables, { ours: false })) {
        if (blocker.pid === null || blocker.ageSeconds * 1_000 < olderThanMs) continue;
        // A superuser's session cannot be ended by others; the guards hold it all the same.
        const gone = await client
          .query<{ ok: string }>('SELECT pg_terminate_backend($1::int) AS ok', [blocker.pid])
          .catch(() => null);
        if (gone?.rows[0]?.ok === 't') ended += 1;
      }
      return ended;
    });
  }

  async seal(epoch: number): Promise<boolean> {
    return this.#sessions.run(ACT_MS, async (client) => {
      if ((await readRecord(client, this.#env)) === null) return false;
      await begin(client, { limitMs: ACT_MS, commit: 'remote_apply' });
      const { rowCount } = await client.query(
        `UPDATE ${this.#record} SET state = 'sealed', changed_at = clock_timestamp()
         WHERE migration = $1 AND state = 'raised' AND epoch = $2`,
        [this.#env.migration, epoch],
      );
      await this.#env.failpoints.hit('fence.seal.before_commit');
      await client.query('COMMIT');
      await this.#env.failpoints.hit('fence.seal.committed');
      return rowCount === 1;
    });
  }

  async lower(epoch: number): Promise<boolean> {
    return this.#letGo(
      `UPDATE ${this.#record} SET state = 'open', barrier = NULL, changed_at = clock_timestamp()
       WHERE migration = $1 AND state = 'raised' AND epoch = $2`,
      epoch,
    );
  }

  async open(epoch: number): Promise<void> {
    const opened = await this.#letGo(
      `UPDATE ${this.#record} SET state = 'open', epoch = $2, barrier = NULL, changed_at = clock_timestamp()
       WHERE migration = $1 AND epoch <= $2`,
      epoch,
    );
    if (opened) return;
    // An engine that was stopped for long must not open a side that a later decision has closed.
    const row = await this.#sessions.run(ACT_MS, (client) => readRecord(client, this.#env));
    throw row === null ? this.#unprepared() : this.#stale('open', epoch, row);
  }

  /** Changes the record and turns the guards off in one transaction; false when the record did not match. */
  async #letGo(update: string, epoch: number): Promise<boolean> {
    const { migration, stateSchema, failpoints } = this.#env;
    return this.#sessions.run(ACT_MS, async (client) => {
      if ((await readRecord(client, this.#env)) === null) return false;
      await client.query(`SET deadlock_timeout = '20ms'`).catch(() => undefined);
      const deadline = performance.now() + ACT_MS;
      for (;;) {
        try {
          await begin(client, {
            limitMs: Math.max(1, Math.ceil(deadline - performance.now())),
            commit: 'on',
          });
          const { rowCount } = await client.query(update, [migration, epoch]);
          if (rowCount !== 1) {
            await client.query('ROLLBACK');
            return false;
          }
          const on = (await readGuards(client, stateSchema, migration)).filter(
            (guard) => guard.enabled !== 'D',
          );
          const sql = [...byTable(on).values()].map((guards) =>
            switchSql(
              (guards[0] as Guard).table,
              guards.map((guard) => guard.name),
              false,
            ),
          );
          await failpoints.hit('fence.lower.before_commit');
          await client.query([...sql, 'COMMIT'].join('; '));
          return true;
        } catch (error) {
          await client.query('ROLLBACK');
          if (!BUSY.has((error as { code?: string }).code ?? '') || performance.now() >= deadline)
            throw error;
          await delay(20 + Math.random() * 30);
        }
      }
    });
  }

  async state(): Promise<FenceState> {
    const row = await this.#sessions.run(ACT_MS, (client) => readRecord(client, this.#env));
    return row === null ? { state: 'open', epoch: 0 } : { state: row.state, epoch: Number(row.epoch) };
  }

  async evidence(): Promise<string> {
    const { migration, stateSchema } = this.#env;
    return this.#sessions.run(ACT_MS, async (client) => {
      const members = await family(client, this.#tables);
      return `${members.map((member) => member.oid).join()} ${await guardEvidence(client, stateSchema, migration)}`;
    });
  }

  async retire(): Promise<void> {
    const { migration, stateSchema } = this.#env;
    await this.#sessions.run(PATIENCE_MS + ACT_MS, async (client) => {
      const deadline = performance.now() + PATIENCE_MS;
      for (const guard of await readGuards(client, stateSchema, migration)) {
        const sql = `DROP TRIGGER IF EXISTS ${ident(guard.name)} ON ${qualified(guard.table)}`;
        await this.#patiently(client, guard.table, deadline, sql);
      }
      const schema = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [stateSchema]);
      if (schema.rowCount === 0) return;
      await client.query(
        `DROP FUNCTION IF EXISTS ${ident(stateSchema)}.${ident(guardNames(migration).function)}()`,
      );
      if ((await readRecord(client, this.#env)) === null) return;
      await begin(client, { limitMs: ACT_MS, commit: 'on' });
      // The lock is taken first: a migration that inserts its row meanwhile must not lose it.
      await client.query(`LOCK TABLE ${this.#record} IN ACCESS EXCLUSIVE MODE`);
      await client.query(`DELETE FROM ${this.#record} WHERE migration = $1`, [migration]);
      const others = await client.query(`SELECT FROM ${this.#record} LIMIT 1`);
      if (others.rowCount === 0) await client.query(`DROP TABLE ${this.#record}`);
      await client.query('COMMIT');
    });
  }

  /** Runs DDL on one table in attempts that give up their place in the lock queue before anybody notices. */
  async #patiently(client: pg.Client, table: TableName, deadline: number, sql: string): Promise<void> {
    // A running autovacuum gives way only to who waits longer than this, which by default is longer than one attempt.
    await client.query(`SET deadlock_timeout = '20ms'`).catch(() => undefined);
    for (let pause = 50; ; pause = Math.min(pause * 2, 1_000)) {
      try {
        await begin(client, { limitMs: ATTEMPT_LOCK_MS, commit: 'on' });
        await client.query(`SET LOCAL statement_timeout = ${ACT_MS}; ${sql}; COMMIT`);
        return;
      } catch (error) {
        await client.query('ROLLBACK');
        if (!BUSY.has((error as { code?: string }).code ?? '')) throw error;
        if (performance.now() + pause > deadline) {
          const blockers = await readBlockers(client, [table], { ours: true }).catch(() => []);
          throw new VerdigrisError(
            'TIMED_OUT',
            `The guards of ${showTable(table)} could not be changed: the table was locked all the time${list(blockers)}`,
            {
              remedy: 'End the named sessions, or try again when the table is less busy.',
              context: { table: showTable(table) },
            },
          );
        }
        await delay(pause);
      }
    }
  }

  #unprepared(): VerdigrisError {
    return new VerdigrisError(
      'CUTOVER_PHASE',
      `${this.#env.side} has no fence record of ${this.#env.migration}`,
      {
        remedy: 'Prepare the fence first; when it was prepared, find out who removed it.',
      },
    );
  }

  #stale(act: string, epoch: number, row: FenceRow): VerdigrisError {
    return new VerdigrisError(
      'CUTOVER_PHASE',
      `${act} with epoch ${epoch} refused on ${this.#env.side}: a later decision (epoch ${row.epoch}) stands there, ${row.state}`,
      { context: { epoch, recorded: Number(row.epoch), state: row.state } },
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#sessions[Symbol.asyncDispose]();
  }

  /** Names who kept the fence from being raised. Nothing is left behind: the transaction was rolled back. */
  async #blocked(client: pg.Client, timeoutMs: number): Promise<VerdigrisError> {
    const blockers = await readBlockers(client, this.#tables, { ours: true }).catch(() => []);
    return new VerdigrisError(
      'CUTOVER_UNDONE',
      `The fence on ${this.#env.side} could not be raised within ${timeoutMs} ms${list(blockers)}; nothing was changed`,
      {
        remedy: 'End the named sessions or prepared transactions, then try again.',
        context: { blockers: blockers.map((blocker) => blocker.describe) },
      },
    );
  }
}

function shuffled<T>(items: readonly T[]): readonly T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((left, right) => left.at - right.at)
    .map(({ item }) => item);
}

const list = (blockers: readonly Blocker[]): string =>
  blockers.length === 0 ? '' : `: ${blockers.map((blocker) => blocker.describe).join('; ')}`;
