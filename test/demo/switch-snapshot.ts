import pg from 'pg';

/** What a snapshot of green says about the switch. */
interface Seen {
  /** Of green's fence: until it is open no client can write there. */
  readonly fence: string | null;
  /** Green held everything that was committed on blue before its fence. */
  readonly drained: boolean;
}

/**
 * Takes snapshots of green all the time while the switch runs, and keeps the last one in which everything of blue had arrived and nothing could have been written on green yet. Both
 * facts are read in that very snapshot, so it is exact however late it is looked at.
 */
export class SwitchSnapshot implements AsyncDisposable {
  readonly #clients: pg.Client[];
  readonly #migration: string;
  readonly #stop = new AbortController();
  #running: Promise<pg.Client | null> | null = null;
  #taken = 0;

  private constructor(clients: pg.Client[], migration: string) {
    this.#clients = clients;
    this.#migration = migration;
  }

  static async open(url: string, migration: string): Promise<SwitchSnapshot> {
    const clients = [1, 2].map(() => new pg.Client({ connectionString: url }));
    // A server that goes away also fails the statement that waits, or the next one.
    for (const client of clients) client.on('error', () => undefined);
    await Promise.all(clients.map((client) => client.connect()));
    return new SwitchSnapshot(clients, migration);
  }

  watch(): void {
    this.#running = this.#watch();
    this.#running.catch(() => undefined);
  }

  /** The session whose open transaction is that snapshot. Ends the watching: green is open, or the switch was not made. */
  async taken(): Promise<pg.Client> {
    this.#stop.abort();
    const kept = await this.#running;
    if (!kept)
      throw new Error(
        `none of ${this.#taken} snapshots of green was taken between the drain and the opening of green`,
      );
    return kept;
  }

  async #watch(): Promise<pg.Client | null> {
    let [next, other] = this.#clients as [pg.Client, pg.Client];
    let kept: pg.Client | null = null;
    for (;;) {
      const stopping = this.#stop.signal.aborted;
      await next.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const { rows } = await next.query<Seen>(
        `SELECT (SELECT state FROM verdigris.fence WHERE migration = $1) AS fence,
                EXISTS (SELECT FROM verdigris.journal WHERE id = $1 AND event = 'cutover.drained') AS drained`,
        [this.#migration],
      );
      this.#taken += 1;
      const seen = rows[0];
      if (seen?.drained === true && seen.fence === 'raised') {
        await kept?.query('ROLLBACK');
        kept = next;
        if (stopping) return kept;
        [next, other] = [other, next];
        continue;
      }
      await next.query('ROLLBACK');
      // Open: what comes from here on may hold rows of clients.
      if (seen?.fence === 'open' || stopping) return kept;
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => undefined);
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
  }
}
