import type mysql from 'mysql2/promise';

import { ENGINE_USER } from '../../support/mysql-harness.ts';
import type { MysqlServer } from '../../support/mysql-server.ts';
import { DATABASE } from './seed.ts';

/** What a snapshot says about the switch, in the words of the side it was taken of. */
interface Seen {
  /** It holds what both sides held at the switch: everything written before the fence, nothing written after. */
  readonly exact: boolean;
  /** What comes from here on may hold more. */
  readonly over: boolean;
}

/**
 * Green: until it is open no client can write there, and the drain says that all of blue has arrived. Blue: raised says that nobody
 * writes, and nothing can have come back from green before it is sealed.
 */
const SEEN = {
  green: `SELECT f.state = 'raised' AND EXISTS (SELECT 1 FROM verdigris.journal WHERE id = ? AND event = 'cutover.drained') AS exact,
            f.state = 'open' AS done FROM verdigris.fence f WHERE f.id = ?`,
  blue: `SELECT f.state = 'raised' AS exact, f.state = 'sealed' AS done FROM verdigris.fence f WHERE ? = f.id AND f.id = ?`,
} as const;
type Side = keyof typeof SEEN;

/** No record of the fence yet: no table, or no database. */
const NOT_YET = new Set(['ER_NO_SUCH_TABLE', 'ER_BAD_DB_ERROR']);

/**
 * Takes snapshots of one side all the time while the switch runs, and keeps the last exact one. What makes it exact is read in that very
 * snapshot, however late it is looked at. The sessions are of the engine's account: the fence ends all others.
 */
export class SwitchSnapshot implements AsyncDisposable {
  readonly #sessions: readonly mysql.Connection[];
  readonly #migration: string;
  readonly #side: Side;
  readonly #stop = new AbortController();
  #running: Promise<mysql.Connection | null> | null = null;
  #taken = 0;

  private constructor(sessions: readonly mysql.Connection[], migration: string, side: Side) {
    this.#sessions = sessions;
    this.#migration = migration;
    this.#side = side;
  }

  static async open(side: Side, server: MysqlServer, migration: string): Promise<SwitchSnapshot> {
    const sessions = await Promise.all([1, 2].map(() => server.connect(DATABASE, ENGINE_USER)));
    for (const session of sessions) {
      session.on('error', () => undefined);
      await session.query('SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    }
    return new SwitchSnapshot(sessions, migration, side);
  }

  watch(): void {
    this.#running = this.#watch();
    this.#running.catch(() => undefined);
  }

  /** The session whose open transaction is that snapshot. Ends the watching. */
  async taken(): Promise<mysql.Connection> {
    this.#stop.abort();
    const kept = await this.#running;
    if (!kept)
      throw new Error(
        `none of ${this.#taken} snapshots of ${this.#side} was taken in the moment of the switch`,
      );
    return kept;
  }

  async #watch(): Promise<mysql.Connection | null> {
    let [next, other] = this.#sessions as [mysql.Connection, mysql.Connection];
    let kept: mysql.Connection | null = null;
    for (;;) {
      const stopping = this.#stop.signal.aborted;
      await next.query('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      const seen = await this.#look(next);
      this.#taken += 1;
      if (seen?.exact === true) {
        await kept?.query('ROLLBACK');
        kept = next;
        if (stopping) return kept;
        [next, other] = [other, next];
        continue;
      }
      await next.query('ROLLBACK');
      if (seen?.over === true || stopping) return kept;
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
  }

  async #look(session: mysql.Connection): Promise<Seen | null> {
    try {
      const [rows] = await session.query<mysql.RowDataPacket[]>(SEEN[this.#side], [
        this.#migration,
        this.#migration,
      ]);
      const [row] = rows;
      return row === undefined
        ? null
        : { exact: Number(row['exact']) === 1, over: Number(row['done']) === 1 };
    } catch (error) {
      if (NOT_YET.has((error as { code?: string }).code ?? '')) return null;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => undefined);
    for (const session of this.#sessions) session.destroy();
  }
}
