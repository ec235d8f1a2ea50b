import { setTimeout as sleep } from 'node:timers/promises';
import { VerdigrisError } from '../../core/errors.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { Logger } from '../../core/log.ts';
import type { ProxyAdapter, ProxyReport, Route } from '../../core/proxy.ts';
import { queryAsClient } from './client.ts';
import type { HaproxyConfig } from './config.ts';
import { probeHaproxy } from './probe.ts';
import { RuntimeApi } from './runtime.ts';
import { find, isAt, parseServersState, parseStat, routeOf, type ShownServer } from './shown.ts';
import { writeStateFile } from './state-file.ts';

/** Between two looks at the counters. */
const LOOK_MS = 10;

/**
 * One HAProxy process, driven over its runtime API. New connections are held by a third server that refuses; a statement
 * inside a connection that exists cannot be held: such connections may end by themselves for a while, then they are ended.
 */
export class HaproxyProxy implements ProxyAdapter {
  readonly name: string;
  readonly promise = { holdsStatements: false, keepsConnections: false, holdsConnections: true } as const;
  readonly query?: (sql: string, signal: AbortSignal) => Promise<string | null>;
  readonly #config: HaproxyConfig;
  readonly #api: RuntimeApi;
  readonly #log: Logger;
  readonly #failpoints: Failpoints;

  constructor(config: HaproxyConfig, env: { readonly log: Logger; readonly failpoints: Failpoints }) {
    this.#config = config;
    const url = config.client_url;
    if (url !== undefined) this.query = (sql, signal) => queryAsClient(url, sql, signal);
    this.#api = new RuntimeApi(config.socket);
    this.name = `haproxy ${config.backends.join(',')} at ${config.socket}`;
    this.#log = env.log.child({ proxy: this.name });
    this.#failpoints = env.failpoints;
  }

  probe(signal: AbortSignal): Promise<ProxyReport> {
    return probeHaproxy({ name: this.name, config: this.#config, api: this.#api, signal });
  }

  async observe(signal: AbortSignal): Promise<Route> {
    return routeOf(await this.#servers(signal), this.#config);
  }

  /**
   * Rejecting leaves HAProxy holding new connections; {@link resume} lets them go. Drained means: no session on blue or
   * green, seen twice, since a connection that was on its way to a server is counted a moment later. A server may still be
   * busy with the last statement of a connection that was ended; the write fence waits for that one.
   */
  async pause(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.haproxy.pause');
    const { backends, hold, drain_ms } = this.#config;
    for (const backend of backends) await this.#set(backend, hold, 'state ready', signal);
    const ends = performance.now() + drain_ms;
    await this.#emptied(signal, async (open) => {
      const held = (await this.#servers(signal)).filter((server) => server.name === hold && server.enabled);
      if (backends.some((backend) => !held.some((server) => server.backend === backend))) {
        throw new VerdigrisError(
          'PROXY_UNEXPECTED',
          `${this.name}: somebody ended the pause while it began.`,
          {
            remedy: 'Find who else works on this HAProxy, then try again.',
          },
        );
      }
      return open > 0 && performance.now() >= ends;
    });
    await this.#remember(signal, 'log');
    this.#log.info({}, 'paused and drained');
  }

  async route(side: 'blue' | 'green', epoch: number, signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.haproxy.route');
    const { backends } = this.#config;
    const other = side === 'blue' ? 'green' : 'blue';
    // All names are looked up before anything changes: half a route would be worse than none.
    const before = await this.#servers(signal);
    for (const backend of backends) {
      for (const { server } of [this.#config.blue, this.#config.green]) this.#known(before, backend, server);
    }
    const target = this.#config[side];
    for (const backend of backends) {
      if (target.host !== undefined && !isAt(this.#known(before, backend, target.server), target)) {
        // Answers with a sentence about what changed; what counts is read below.
        const to = `addr ${target.host} port ${target.port}`;
        await this.#api.change(`set server ${backend}/${target.server} ${to}`, signal);
      }
      // In this order there is always one that is ready; of two only the first of the file is used.
      await this.#set(backend, target.server, 'state ready', signal);
      await this.#set(backend, this.#config[other].server, 'state maint', signal);
    }
    await this.#routed(side, signal);
    // Paused: there is none. Not paused (repair after a restart of HAProxy): sessions on the other server stay for ever.
    await this.#emptied(signal, async () => true, [this.#config[other].server]);
    await this.#remember(signal, 'throw');
    this.#log.info({ side, epoch }, 'routed');
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.haproxy.resume');
    const { backends, hold } = this.#config;
    for (const backend of backends) await this.#set(backend, hold, 'state maint', signal);
    const { paused } = await this.observe(signal);
    if (paused)
      throw new VerdigrisError('PROXY_UNEXPECTED', `${this.name}: still holds after ${hold} was disabled.`);
    await this.#remember(signal, 'log');
    this.#log.info({}, 'resumed');
  }

  /** Connections that HAProxy has taken and that are on neither server. */
  async waiting(signal: AbortSignal): Promise<number | null> {
    const counts = parseStat(await this.#api.ask('show stat', signal));
    const { blue, green } = this.#config;
    const count = counts
      .filter(({ backend }) => this.#config.backends.includes(backend))
      .reduce((sum, { name, sessions }) => {
        if (name === 'BACKEND') return sum + sessions;
        return name === blue.server || name === green.server ? sum - sessions : sum;
      }, 0);
    // The rows are not taken at one moment.
    return Math.max(0, count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#api.close();
  }

  async #servers(signal: AbortSignal): Promise<ShownServer[]> {
    const shown = parseServersState(await this.#api.ask('show servers state', signal));
    return shown.filter((server) => this.#config.backends.includes(server.backend));
  }

  #set(backend: string, server: string, what: string, signal: AbortSignal): Promise<void> {
    return this.#api.act(`set server ${backend}/${server} ${what}`, signal);
  }

  #known(servers: readonly ShownServer[], backend: string, name: string): ShownServer {
    const server = find(servers, backend, name);
    if (server !== undefined) return server;
    throw new VerdigrisError('PROXY_UNEXPECTED', `${this.name}: backend ${backend} has no server ${name}.`);
  }

  /** Until HAProxy shows the route and its health checks call the target up. */
  async #routed(side: 'blue' | 'green', signal: AbortSignal): Promise<void> {
    for (;;) {
      const servers = await this.#servers(signal);
      const route = routeOf(servers, this.#config);
      if (route.to !== side) {
        const shown = 'detail' in route ? route.detail : route.to;
        throw new VerdigrisError(
          'PROXY_UNEXPECTED',
          `${this.name}: shows ${shown} after it was pointed to ${side}.`,
        );
      }
      const name = this.#config[side].server;
      if (this.#config.backends.every((backend) => find(servers, backend, name)?.running === true)) return;
      await this.#look(signal, `the health check does not call ${name} up`);
    }
  }

  /**
   * Until no session is left on these servers; asked before every look whether to end them. Ends in two empty looks.
   * @throws VerdigrisError PROXY_TIMEOUT
   */
  async #emptied(
    signal: AbortSignal,
    mayEnd: (open: number) => Promise<boolean>,
    servers: readonly string[] = [this.#config.blue.server, this.#config.green.server],
  ): Promise<void> {
    for (let empty = 0; ;) {
      const counts = parseStat(await this.#api.ask('show stat', signal)).filter(
        (count) => this.#config.backends.includes(count.backend) && servers.includes(count.name),
      );
      if (counts.length !== this.#config.backends.length * servers.length)
        throw new VerdigrisError('PROXY_UNEXPECTED', `${this.name}: a server is not among the counters.`);
      const open = counts.reduce((sum, count) => sum + count.sessions, 0);
      const end = await mayEnd(open);
      empty = open === 0 ? empty + 1 : 0;
      if (empty === 2) return;
      for (const { backend, name, sessions } of end ? counts : [])
        if (sessions > 0) await this.#api.act(`shutdown sessions server ${backend}/${name}`, signal);
      await this.#look(signal, `sessions are still open: ${open}`);
    }
  }

  /** What a reload or restart of HAProxy will start with. */
  async #remember(signal: AbortSignal, on: 'throw' | 'log'): Promise<void> {
    const path = this.#config.state_file;
    if (path === undefined) return;
    try {
      await writeStateFile(path, await this.#api.ask('show servers state', signal));
    } catch (error) {
      if (on === 'throw') throw error;
      this.#log.warn({ path, error: (error as Error).message }, 'a restart of HAProxy would forget this');
    }
  }

  async #look(signal: AbortSignal, what: string): Promise<void> {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted)
      throw new VerdigrisError('PROXY_TIMEOUT', `${this.name}: ${what}.`, { cause: signal.reason });
  }
}
