import { setTimeout as sleep } from 'node:timers/promises';
import { VerdigrisError } from '../../core/errors.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { Logger } from '../../core/log.ts';
import type { ProxyAdapter, ProxyReport, Route } from '../../core/proxy.ts';
import { AdminConsole, adminIdent, type ShowRow } from './admin.ts';
import { queryAsClient } from './client.ts';
import type { PgBouncerConfig, PgBouncerRoute } from './config.ts';
import { exclusively, readIni, replaceIni } from './file.ts';
import { rewriteDatabases } from './ini.ts';
import { probePgBouncer, settingsOf, wholeIsHeld } from './probe.ts';
import { place, pointsAt, shownDatabase, sideOf, type Shown } from './shown.ts';

/** Between two looks at what PgBouncer shows. It acts on idle connections once per event loop turn, so milliseconds do. */
const LOOK_MS = 10;
/** While a PAUSE waits for transactions: how often somebody else's RESUME is looked for. */
const WATCH_MS = 100;
/** A PAUSE is shown as soon as PgBouncer has read it. What is not shown by then was taken away before we looked. */
const BEGUN_MS = 2_000;
/** How long logins under way are waited for before a PAUSE. */
const LOGINS_MS = 2_000;
/** The least `max_db_connections`: 0 is no limit. */
const ONE = '1';
const SERVED_MS = 2_000;
const RESTORE_MS = 2_000;

/** One PgBouncer process: its admin console and the ini file it reads. */
export class PgBouncerProxy implements ProxyAdapter {
  readonly name: string;
  readonly promise = { holdsStatements: true, keepsConnections: true } as const;
  readonly query?: (sql: string, signal: AbortSignal) => Promise<string | null>;
  readonly #config: PgBouncerConfig;
  readonly #admin: AdminConsole;
  readonly #log: Logger;
  readonly #failpoints: Failpoints;

  constructor(config: PgBouncerConfig, env: { readonly log: Logger; readonly failpoints: Failpoints }) {
    this.#config = config;
    const url = config.client_url;
    if (url !== undefined) this.query = (sql, signal) => queryAsClient(url, sql, signal);
    this.#admin = new AdminConsole(config.admin_url);
    this.name = `pgbouncer ${config.databases.join(',')} at ${this.#admin.address}`;
    this.#log = env.log.child({ proxy: this.name });
    this.#failpoints = env.failpoints;
  }

  probe(signal: AbortSignal): Promise<ProxyReport> {
    return probePgBouncer({ name: this.name, config: this.#config, admin: this.#admin, signal });
  }

  /** One paused database is enough for `paused`: some client is held. */
  async observe(signal: AbortSignal): Promise<Route> {
    const shown = await this.#shown(signal);
    const paused = shown.some((database) => database.paused);
    const detail = shown.map((database) => place(database) + (database.paused ? ' (paused)' : '')).join(', ');
    const missing = this.#config.databases.filter(
      (name) => !shown.some((database) => database.name === name),
    );
    if (missing.length > 0)
      return { to: 'unknown', paused, detail: `not known to PgBouncer: ${missing.join(', ')}` };
    const sides = new Set(shown.map((database) => sideOf(database, this.#config)));
    if (sides.has(null)) return { to: 'unknown', paused, detail };
    const [side] = sides;
    if (sides.size > 1 || side === undefined || side === null) return { to: 'mixed', paused, detail };
    return { to: side, paused };
  }

  /**
   * PAUSE of every database at once, each on a connection of its own: its answer is the end of the last transaction, may
   * never come (somebody's RESUME takes it away), and a PAUSE outlives the connection that asked for it. So rejecting
   * leaves the databases paused; {@link resume} lets them go.
   */
  async pause(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.pgbouncer.pause');
    const { databases } = this.#config;
    const connections = await Promise.allSettled(databases.map(() => this.#admin.connect(signal)));
    const clients = connections.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const over = new AbortController();
    try {
      const refused = connections.find((result) => result.status === 'rejected');
      if (refused) throw refused.reason as Error;
      const answers = await this.#withoutLogins(signal, async () => {
        await this.#loggedIn(signal);
        await this.#failpoints.hit('proxy.pgbouncer.looked');
        const pauses = clients.map((client, index) =>
          this.#admin.run(client, `PAUSE ${adminIdent(databases[index] as string)}`, signal),
        );
        const begun = Promise.withResolvers<void>();
        const watched = this.#watchPause(begun.resolve, signal, over.signal);
        const answered = Promise.race([Promise.all(pauses), watched]);
        await Promise.race([answered, begun.promise]);
        return { answered };
      });
      await answers.answered;
      over.abort();
      await this.#drained(signal);
    } finally {
      over.abort();
      // Ending one whose PAUSE still waits cuts it.
      for (const client of clients) void client.end().catch(() => undefined);
    }
    this.#log.info({}, 'paused and drained');
  }

  async route(side: 'blue' | 'green', epoch: number, signal: AbortSignal): Promise<void> {
    const target = this.#config[side];
    await exclusively(this.#config.ini, async (path) => {
      await this.#failpoints.hit('proxy.pgbouncer.route');
      const before = await readIni(path);
      const after = rewriteDatabases(before, this.#config.databases, valuesOf(target));
      if (after !== before) await replaceIni(path, after);
      await this.#failpoints.hit('proxy.pgbouncer.reload');
      try {
        await this.#reload(target, signal);
      } catch (error) {
        if (after !== before) await this.#takeBack(path, before);
        throw error;
      }
    });
    await this.#leaveOld(signal);
    this.#log.info({ side, epoch }, 'routed');
  }

  /** A RELOAD of the file as it is, which is what a switch waits for: it changes no database and ends no connection. */
  async rehearse(signal: AbortSignal): Promise<void> {
    await readIni(this.#config.ini);
    await this.#admin.command('RELOAD', signal);
    await this.#shown(signal);
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.pgbouncer.resume');
    let settings = await this.#settings(signal);
    // Who died between the look and the PAUSE left it so.
    if (settings.get('max_db_connections') === ONE) {
      await this.#admin.command('RELOAD', signal);
      settings = await this.#settings(signal);
    }
    // A PAUSE that meets a server connection in its login counts it as a failed one, and after RESUME the clients wait until
    // `server_login_retry` (15 s) is over (seen with 1.25.2). So it is 0 until the pools have connected.
    const restore = await this.#set('server_login_retry', '0', settings, signal);
    try {
      await this.#letGo(signal);
      await this.#served(signal);
    } finally {
      await restore();
    }
    this.#log.info({}, 'resumed');
  }

  async waiting(signal: AbortSignal): Promise<number | null> {
    const pools = await this.#admin.command('SHOW POOLS', signal);
    return pools
      .filter((pool) => this.#config.databases.includes(pool['database'] ?? ''))
      .reduce((sum, pool) => sum + Number(pool['cl_waiting'] ?? 0), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#admin[Symbol.asyncDispose]();
  }

  /**
   * Keeps PgBouncer from opening server connections while `act` runs: a client that wants one waits, as it does when its pool is full
   * (`max_db_connections`, https://www.pgbouncer.org/config.html). A pool without any connection may still open its first. It
   * concerns every database of this process that has no limit of its own, so it is for the moment of the PAUSE only; a RELOAD takes it
   * away as well.
   */
  async #withoutLogins<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    const restore = await this.#set('max_db_connections', ONE, await this.#settings(signal), signal);
    try {
      return await act();
    } finally {
      await restore();
    }
  }

  /** Sets it until the returned function is called. Should we die in between, a RELOAD puts it back. */
  async #set(
    key: string,
    value: string,
    settings: ReadonlyMap<string, string>,
    signal: AbortSignal,
  ): Promise<() => Promise<void>> {
    const before = settings.get(key) ?? '0';
    if (before === value) return async () => undefined;
    const set = (to: string, until: AbortSignal) =>
      this.#admin.command(`SET ${key} = '${to.replaceAll("'", "''")}'`, until);
    await set(value, signal);
    return async () => {
      try {
        await set(before, AbortSignal.timeout(RESTORE_MS));
      } catch (error) {
        this.#log.warn(
          { before, error: (error as Error).message },
          `${key} stays ${value} until the next RELOAD`,
        );
      }
    };
  }

  async #settings(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    return settingsOf(await this.#admin.command('SHOW CONFIG', signal));
  }

  async #letGo(signal: AbortSignal): Promise<void> {
    for (const database of this.#config.databases) {
      try {
        await this.#admin.command(`RESUME ${adminIdent(database)}`, signal);
      } catch (error) {
        // "database x is not paused" comes as an error; whether it is paused is read below.
        if (!(error instanceof VerdigrisError) || error.code !== 'PROXY_UNEXPECTED') throw error;
      }
    }
    const shown = await this.#shown(signal);
    const held = this.#config.databases.filter(
      (name) => !shown.some((database) => database.name === name && !database.paused),
    );
    if (held.length > 0) {
      throw new VerdigrisError(
        'PROXY_UNEXPECTED',
        `${this.name}: still paused or unknown after RESUME: ${held.join(', ')}.`,
      );
    }
    if (await wholeIsHeld(this.#admin, signal)) {
      throw new VerdigrisError(
        'PROXY_UNEXPECTED',
        `${this.name}: the whole PgBouncer is paused, not by us.`,
        {
          remedy: 'Somebody gave PAUSE without a database; give RESUME without one on its admin console.',
        },
      );
    }
  }

  /**
   * A PAUSE that fails a login under way makes PgBouncer refuse every new statement until a login succeeds ("server login has been
   * failing", seen with 1.25.2 and sixteen clients whose pool was still filling). Bounded: a login that hangs belongs to a server that
   * serves nobody.
   */
  async #loggedIn(signal: AbortSignal): Promise<void> {
    const late = AbortSignal.any([signal, AbortSignal.timeout(LOGINS_MS)]);
    while (!late.aborted) {
      const pools = await this.#admin.command('SHOW POOLS', signal);
      const busy = pools.some(
        (pool) =>
          this.#config.databases.includes(pool['database'] ?? '') && Number(pool['sv_login'] ?? 0) > 0,
      );
      if (!busy) return;
      await sleep(LOOK_MS, undefined, { signal: late }).catch(() => undefined);
    }
  }

  /** Every pool that clients wait for has a server connection or makes one. Bounded and no error: a server may be down. */
  async #served(signal: AbortSignal): Promise<void> {
    const servers = ['sv_active', 'sv_idle', 'sv_used', 'sv_tested', 'sv_login'] as const;
    const late = AbortSignal.any([signal, AbortSignal.timeout(SERVED_MS)]);
    while (!late.aborted) {
      const pools = await this.#admin.command('SHOW POOLS', signal);
      const alone = pools.filter(
        (pool) =>
          this.#config.databases.includes(pool['database'] ?? '') &&
          Number(pool['cl_waiting']) > 0 &&
          servers.every((state) => Number(pool[state] ?? 0) === 0),
      );
      if (alone.length === 0) return;
      await sleep(LOOK_MS, undefined, { signal: late }).catch(() => undefined);
    }
  }

  async #shown(signal: AbortSignal): Promise<Shown[]> {
    const rows = await this.#admin.command('SHOW DATABASES', signal);
    return rows.map(shownDatabase).filter((shown) => this.#config.databases.includes(shown.name));
  }

  /**
   * Calls `begun` once every database was seen paused. Rejects when one is not paused any more, or was never seen so: the PAUSE
   * that waits would never be answered.
   */
  async #watchPause(begun: () => void, signal: AbortSignal, over: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.pgbouncer.given');
    const seen = new Set<string>();
    const started = performance.now();
    const either = AbortSignal.any([signal, over]);
    while (!over.aborted) {
      const overdue = performance.now() - started > BEGUN_MS;
      for (const database of await this.#shown(signal)) {
        if (database.paused) seen.add(database.name);
        else if (overdue || seen.has(database.name)) {
          throw new VerdigrisError(
            'PROXY_UNEXPECTED',
            `${this.name}: somebody gave RESUME for ${database.name} during the pause.`,
            {
              remedy: 'Find who else works on this PgBouncer, then try again.',
            },
          );
        }
      }
      const whole = seen.size === this.#config.databases.length;
      if (whole) begun();
      await sleep(whole ? WATCH_MS : LOOK_MS, undefined, { signal: either }).catch(() => undefined);
      if (signal.aborted) throw this.#late(signal, 'transactions are still running');
    }
  }

  /**
   * An answered PAUSE is not yet proof (`paused` is shown while a server connection is still active): proof is that every
   * database is paused and not one server connection is left.
   */
  async #drained(signal: AbortSignal): Promise<void> {
    for (;;) {
      const [servers, shown] = [await this.#servers(signal), await this.#shown(signal)];
      if (shown.length !== this.#config.databases.length || shown.some((database) => !database.paused)) {
        throw new VerdigrisError(
          'PROXY_UNEXPECTED',
          `${this.name}: PAUSE was answered, but not every database is paused.`,
        );
      }
      if (servers.length === 0) return;
      await this.#look(signal, `server connections are still open: ${servers.length}`);
    }
  }

  /** RELOAD answers OK for a file with `port=5x5` (it takes 5) or without the database: only what is shown after it counts. */
  async #reload(target: PgBouncerRoute, signal: AbortSignal): Promise<void> {
    await this.#admin.command('RELOAD', signal);
    const shown = await this.#shown(signal);
    for (const name of this.#config.databases) {
      const database = shown.find((candidate) => candidate.name === name);
      if (database && pointsAt(database, target)) continue;
      throw new VerdigrisError(
        'PROXY_UNEXPECTED',
        `${this.name}: after RELOAD PgBouncer shows ${database ? place(database) : `no database ${name}`}, not ${target.host}:${target.port}/${target.dbname}.`,
        {
          remedy:
            'Check that this process reads the named ini file and that no other entry overrides it (%include, duplicates).',
        },
      );
    }
  }

  async #takeBack(path: string, before: string): Promise<void> {
    try {
      await replaceIni(path, before);
      await this.#admin.command('RELOAD', AbortSignal.timeout(5_000));
      this.#log.warn({ path }, 'the ini file was put back');
    } catch (error) {
      this.#log.error(
        { path, error: error instanceof Error ? error.message : String(error) },
        'the ini file could not be put back',
      );
    }
  }

  /**
   * No connection to the old server may be used again. Paused: none at all may be open. Not paused (repair after a
   * restart of PgBouncer): those opened before RECONNECT end with their transaction.
   */
  async #leaveOld(signal: AbortSignal): Promise<void> {
    for (const database of this.#config.databases)
      await this.#admin.command(`RECONNECT ${adminIdent(database)}`, signal);
    for (;;) {
      const paused = (await this.#shown(signal)).every((database) => database.paused);
      const servers = await this.#servers(signal);
      const old = servers.filter((server) => paused || server['close_needed'] === '1');
      if (old.length === 0) return;
      await this.#look(signal, `connections to the old server are still open: ${old.length}`);
    }
  }

  async #servers(signal: AbortSignal): Promise<readonly ShowRow[]> {
    const servers = await this.#admin.command('SHOW SERVERS', signal);
    return servers.filter((server) => this.#config.databases.includes(server['database'] ?? ''));
  }

  async #look(signal: AbortSignal, what: string): Promise<void> {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw this.#late(signal, what);
  }

  #late(signal: AbortSignal, what: string): VerdigrisError {
    return new VerdigrisError('PROXY_TIMEOUT', `${this.name}: ${what}.`, { cause: signal.reason });
  }
}

const valuesOf = (route: PgBouncerRoute): ReadonlyMap<string, string> =>
  new Map([
    ['host', route.host],
    ['port', String(route.port)],
    ['dbname', route.dbname],
    ...(route.user === undefined ? [] : [['user', route.user] as const]),
  ]);
