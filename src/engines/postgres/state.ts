import { VerdigrisError } from '../../core/errors.ts';
import type { SessionEnv } from '../../core/engine.ts';
import { PHASES, type JournalEvent, type Phase, type RunRecord, type StateStore } from '../../core/state.ts';
import { connect } from './connect.ts';
import type { PostgresConfig } from './config.ts';
import { translate } from './errors.ts';
import { applicationName, endOlderTerms } from './lease.ts';
import { BatchFailure, sqlState, Wire, type Outcome, type Statement } from './sink-wire.ts';
import { PostgresForeignWrites } from './foreign-writes.ts';
import { PostgresVerificationStore, type VerificationStoreOptions } from './verification.ts';
import { dropState, prepareState, stateTable } from './state-tables.ts';

/** How long one try to raise the term waits for sessions of the old one before they are ended. */
const TAKEOVER_LOCK_MS = 1_000;
const TAKEOVER_TRIES = 10;

/** Runs, leases and the journal, beside the data of one side. */
export function createStateStore(options: {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
}): PostgresStateStore {
  return new PostgresStateStore(options.config, options.env);
}

/** Its own connection (shared with what is stored of verification), opened on first use and again after a loss; calls are done one after the other. */
export class PostgresStateStore implements StateStore, AsyncDisposable {
  readonly #config: PostgresConfig;
  readonly #env: SessionEnv;
  readonly verification: PostgresVerificationStore;
  readonly foreignWrites: PostgresForeignWrites;
  #wire: Wire | null = null;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: PostgresConfig, env: SessionEnv) {
    this.#config = config;
    this.#env = env;
    const here: VerificationStoreOptions = {
      stateSchema: env.stateSchema,
      use: (work) => this.#exclusive(work),
      durably: (wire, statements) => this.#durably(wire, statements),
    };
    this.verification = new PostgresVerificationStore(here);
    this.foreignWrites = new PostgresForeignWrites(here);
  }

  prepare(): Promise<void> {
    return this.#exclusive((wire) => prepareState(wire, this.#env.stateSchema));
  }

  acquire(
    id: string,
    holder: string,
    options: { readonly ttlMs: number; readonly takeover: boolean },
  ): Promise<number> {
    return this.#exclusive(async (wire) => {
      for (let attempt = 1; ; attempt += 1) {
        const current = (
          await wire.one(
            `SELECT term::text, holder, (expires > pg_catalog.clock_timestamp())::int::text FROM ${this.#table('lease')} WHERE id = $1`,
            [id],
          )
        ).rows[0];
        if (current !== undefined && current[2] === '1' && current[1] !== holder && !options.takeover) {
          throw new VerdigrisError('STATE_LEASE_HELD', `Migration ${id} is run by ${current[1]}.`, {
            context: { holder: current[1], term: Number(current[0]) },
          });
        }
        const term = await this.#raise(wire, id, {
          holder,
          ttlMs: options.ttlMs,
          seen: current?.[0] ?? null,
        });
        if (term !== null) {
          await wire.run([endOlderTerms(id, term)]);
          return term;
        }
        if (attempt >= TAKEOVER_TRIES) {
          throw new VerdigrisError(
            'STATE_LEASE_HELD',
            `The lease of ${id} could not be taken: a session of the old term holds it.`,
          );
        }
        // A frozen holder keeps its row lock for ever; its sessions are known by their names.
        if (current !== undefined) await wire.run([endOlderTerms(id, Number(current[0]) + 1)]);
      }
    });
  }

  /** Compare-and-set on the term; null when somebody else was quicker or still holds the row. */
  async #raise(
    wire: Wire,
    id: string,
    to: { holder: string; ttlMs: number; seen: string | null },
  ): Promise<number | null> {
    const ttl = 'pg_catalog.make_interval(secs => $3::float8 / 1000)';
    const expires = `pg_catalog.clock_timestamp() + ${ttl}`;
    const statement: Statement =
      to.seen === null
        ? {
            text: `INSERT INTO ${this.#table('lease')} (id, term, holder, ttl, expires) VALUES ($1, 1, $2, ${ttl}, ${expires}) ON CONFLICT DO NOTHING RETURNING term::text`,
            values: [id, to.holder, String(to.ttlMs)],
          }
        : {
            text: `UPDATE ${this.#table('lease')} SET term = term + 1, holder = $2, ttl = ${ttl}, expires = ${expires} WHERE id = $1 AND term = $4::bigint RETURNING term::text`,
            values: [id, to.holder, String(to.ttlMs), to.seen],
          };
    try {
      const outcomes = await this.#durably(wire, [
        { text: `SET LOCAL lock_timeout = ${TAKEOVER_LOCK_MS}`, values: [] },
        statement,
      ]);
      const term = outcomes[1]?.rows[0]?.[0];
      return term === undefined || term === null ? null : Number(term);
    } catch (error) {
      if (sqlState(error) === '55P03') return null;
      throw error;
    }
  }

  renew(id: string, term: number): Promise<boolean> {
    return this.#exclusive(async (wire) => {
      const { rows } = await wire.one(
        `UPDATE ${this.#table('lease')} SET expires = pg_catalog.clock_timestamp() + ttl
         WHERE id = $1 AND term = $2::bigint RETURNING 1`,
        [id, String(term)],
      );
      return rows.length === 1;
    });
  }

  async release(id: string, term: number): Promise<void> {
    await this.#exclusive((wire) =>
      this.#durably(wire, [
        {
          text: `UPDATE ${this.#table('lease')} SET expires = '-infinity' WHERE id = $1 AND term = $2::bigint`,
          values: [id, String(term)],
        },
      ]),
    );
  }

  load(id: string): Promise<RunRecord | null> {
    return this.#exclusive(async (wire) => {
      if (!(await this.#prepared(wire))) return null;
      const { rows } = await wire.one(
        `SELECT phase, epoch::text, active_side, plan_hash, detail, revision::text FROM ${this.#table('run')} WHERE id = $1`,
        [id],
      );
      return rows[0] === undefined ? null : record(id, rows[0] as readonly string[]);
    });
  }

  save(next: RunRecord, term: number): Promise<RunRecord> {
    return this.#exclusive(async (wire) => {
      const revision = next.revision + 1;
      const values = [
        next.id,
        next.phase,
        String(next.epoch),
        next.activeSide,
        next.planHash,
        JSON.stringify(next.detail),
        String(revision),
      ];
      const lease = `(SELECT 1 FROM ${this.#table('lease')} WHERE id = $1 AND term = $8::bigint FOR KEY SHARE)`;
      const statement: Statement =
        next.revision === 0
          ? {
              text: `WITH l AS ${lease} INSERT INTO ${this.#table('run')} (id, phase, epoch, active_side, plan_hash, detail, revision)
                SELECT $1, $2, $3::bigint, $4, $5, $6, $7::bigint FROM l ON CONFLICT DO NOTHING RETURNING 1`,
              values: [...values, String(term)],
            }
          : {
              text: `WITH l AS ${lease} UPDATE ${this.#table('run')} AS r SET phase = $2, epoch = $3::bigint, active_side = $4, plan_hash = $5,
                detail = $6, revision = $7::bigint, updated = pg_catalog.clock_timestamp() FROM l
                WHERE r.id = $1 AND r.revision = $9::bigint RETURNING 1`,
              values: [...values, String(term), String(next.revision)],
            };
      const outcomes = await this.#durably(wire, [statement]);
      if (outcomes[0]?.rows.length !== 1) {
        throw new VerdigrisError(
          'STATE_CONFLICT',
          `The record of ${next.id} is not at revision ${next.revision} under term ${term}.`,
          {
            context: { revision: next.revision, term },
          },
        );
      }
      return { ...next, revision };
    });
  }

  async note(id: string, event: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#exclusive((wire) =>
      this.#durably(wire, [
        {
          text: `INSERT INTO ${this.#table('journal')} (id, event, detail) VALUES ($1, $2, $3)`,
          values: [id, event, JSON.stringify(detail)],
        },
      ]),
    );
  }

  events(id: string, after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#exclusive(async (wire) => {
      if (!(await this.#prepared(wire))) return [];
      const { rows } = await wire.one(
        `SELECT sequence::text, pg_catalog.to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), event, detail
         FROM ${this.#table('journal')} WHERE id = $1 AND sequence > $2::bigint ORDER BY sequence LIMIT $3::bigint`,
        [id, String(after), String(limit)],
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
    await this.verification.retire(id);
    await this.foreignWrites.retire(id);
    await this.#exclusive(async (wire) => {
      if (!(await this.#prepared(wire))) return;
      await wire.one('BEGIN');
      try {
        await wire.one('SET LOCAL synchronous_commit = on');
        for (const table of ['run', 'lease', 'journal'] as const)
          await wire.one(`DELETE FROM ${this.#table(table)} WHERE id = $1`, [id]);
        const left = await wire.one(
          (['run', 'lease', 'checkpoint', 'ranges', 'deferred', 'halves'] as const)
            .map((table) => `SELECT 1 FROM ${this.#table(table)}`)
            .join(' UNION ALL ') + ' LIMIT 1',
        );
        if (left.rows.length === 0) await dropState(wire, this.#env.stateSchema);
        await wire.one('COMMIT');
      } catch (error) {
        if (!wire.lost) await wire.one('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.catch(() => undefined);
    const wire = this.#wire;
    this.#wire = null;
    await wire?.[Symbol.asyncDispose]();
  }

  /** Our tables are there: `plan` and `status` look before anything was made. */
  async #prepared(wire: Wire): Promise<boolean> {
    const present = await wire.one('SELECT pg_catalog.to_regclass($1) IS NOT NULL', [this.#table('run')]);
    return present.rows[0]?.[0] === 't';
  }

  #table(name: Parameters<typeof stateTable>[1]): string {
    return stateTable(this.#env.stateSchema, name);
  }

  /** One transaction that survives a crash when this resolves, whatever the database's own setting. */
  async #durably(wire: Wire, statements: readonly Statement[]): Promise<readonly Outcome[]> {
    const head = ['BEGIN', 'SET LOCAL synchronous_commit = on'].map((text) => ({ text, values: [] }));
    try {
      const outcomes = await wire.run([...head, ...statements, { text: 'COMMIT', values: [] }]);
      return outcomes.slice(head.length, -1);
    } catch (failure) {
      const error = failure instanceof BatchFailure ? failure.error : failure;
      if (!wire.lost) await wire.one('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  #exclusive<T>(work: (wire: Wire) => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      try {
        return await work(await this.#open());
      } catch (error) {
        throw translate(error instanceof BatchFailure ? error.error : error, 'state', {
          schema: this.#env.stateSchema,
        });
      }
    });
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #open(): Promise<Wire> {
    if (this.#wire !== null && !this.#wire.lost) return this.#wire;
    const client = await connect(this.#config, {
      // No term: a takeover must not end the session of the store that does it.
      applicationName: applicationName(this.#env.migration, 'state', 0).replace(/:t0$/, ''),
      settings: {
        default_transaction_read_only: 'off',
        lock_timeout: '10s',
        tcp_user_timeout: '30s',
        row_security: 'off',
      },
    });
    this.#wire = new Wire(client);
    return this.#wire;
  }
}

function record(id: string, row: readonly string[]): RunRecord {
  const [phase, epoch, activeSide, planHash, detail, revision] = row as readonly [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  if (!(PHASES as readonly string[]).includes(phase) || (activeSide !== 'blue' && activeSide !== 'green')) {
    throw new VerdigrisError(
      'STATE_FORMAT',
      `The record of ${id} holds a phase or side that this version does not know.`,
      {
        context: { phase, activeSide },
      },
    );
  }
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
