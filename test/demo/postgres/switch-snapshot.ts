import pg from 'pg';

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
  green: `SELECT f.state = 'raised' AND EXISTS (SELECT FROM verdigris.journal WHERE id = $1 AND event = 'cutover.drained') AS exact,
            f.state = 'open' AS over FROM verdigris.fence f WHERE migration = $1`,
  blue: `SELECT f.state = 'raised' AS exact, f.state = 'sealed' AS over FROM verdigris.fence f WHERE migration = $1`,
} as const;
type Side = keyof typeof SEEN;

/** No record of the fence yet: no schema, or no table. */
const NOT_YET = new Set(['3F000', '42P01']);

/**
 * Takes snapshots of one side all the time while the switch runs, and keeps the last exact one. What makes it exact is read in that very
 * snapshot, however late it is looked at.
 */
export class SwitchSnapshot implements AsyncDisposable {
  readonly #clients: pg.Client[];
  readonly #migration: string;
  readonly #side: Side;
  readonly #stop = new AbortController();
  #running: Promise<pg.Client | null> | null = null;
  #taken = 0;

  private constructor(clients: pg.Client[], migration: string, side: Side) {
    this.#clients = clients;
    this.#migration = migration;
    this.#side = side;
  }

  static async open(side: Side, url: string, migration: string): Promise<SwitchSnapshot> {
    const clients = [1, 2].map(() => new pg.Client({ connectionString: url }));
    // A server that goes away also fails the statement that waits, or the next one.
    for (const client of clients) client.on('error', () => undefined);
    await Promise.all(clients.map((client) => client.connect()));
    return new SwitchSnapshot(clients, migration, side);
  }

  watch(): void {
    this.#running = this.#watch();
    this.#running.catch(() => undefined);
  }

  /** The session whose open transaction is that snapshot. Ends the watching. */
  async taken(): Promise<pg.Client> {
    this.#stop.abort();
    const kept = await this.#running;
    if (!kept)
      throw new Error(
        `none of ${this.#taken} snapshots of ${this.#side} was taken in the moment of the switch`,
      );
    return kept;
  }

  async #watch(): Promise<pg.Client | null> {
    let [next, other] = this.#clients as [pg.Client, pg.Client];
    let kept: pg.Client | null = null;
    for (;;) {
      const stopping = this.#stop.signal.aborted;
      await next.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const seen = await next
        .query<Seen>(SEEN[this.#side], [this.#migration])
        .then(({ rows }) => rows[0])
        .catch((error: unknown) => {
          if (NOT_YET.has((error as { code?: string }).code ?? '')) return undefined;
          throw error;
        });
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => undefined);
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
  }
}
