import type { ConfigIssue } from './engine.ts';
import type { Failpoints } from './failpoint.ts';
import type { Logger } from './log.ts';

/** Where a proxy sends its clients, as the proxy itself says. */
export type Route =
  | { readonly to: 'blue' | 'green'; readonly paused: boolean }
  | { readonly to: 'mixed' | 'unknown'; readonly paused: boolean; readonly detail: string };

export interface ProxyPromise {
  /** Statements of existing connections wait instead of failing. */
  readonly holdsStatements: boolean;
  /** Existing client connections survive the switch. */
  readonly keepsConnections: boolean;
  /** New connections wait while paused instead of being refused. Absent: the same as {@link holdsStatements}. */
  readonly holdsConnections?: boolean;
}

export interface ProxyReport {
  readonly name: string;
  readonly version: string;
  /** How long it holds a waiting client before it gives the client an error, ms; null: without end; absent: it cannot tell. */
  readonly holdsForMs?: number | null;
  /** Conditions that would make a switch fail or hurt clients, each with what to do. Empty: ready. */
  readonly findings: readonly {
    readonly level: 'block' | 'warn';
    readonly text: string;
    readonly remedy: string;
  }[];
}

/**
 * One proxy. Every method bounds its own waits by `signal`. Nothing is assumed: {@link observe} reads back.
 */
export interface ProxyAdapter extends AsyncDisposable {
  readonly name: string;
  readonly promise: ProxyPromise;
  /** Reachable, understood, configured as this adapter expects? Changes nothing. */
  probe(signal: AbortSignal): Promise<ProxyReport>;
  observe(signal: AbortSignal): Promise<Route>;
  /** Holds new work and waits until nothing is running on the old server. Rejects (and is paused or not) when the signal fires. */
  pause(signal: AbortSignal): Promise<void>;
  /** Points new work at a side, while paused, and reads it back. Idempotent. */
  route(side: 'blue' | 'green', epoch: number, signal: AbortSignal): Promise<void>;
  /**
   * Does what {@link route} would cost, without effect on any client: for rehearsals. Absent: it cannot be done without an effect
   * (a reload ends connections), so only {@link observe} is timed.
   */
  rehearse?(signal: AbortSignal): Promise<void>;
  /** Lets work go on. Idempotent. */
  resume(signal: AbortSignal): Promise<void>;
  /**
   * One statement as a client of this proxy: first cell of the first row. Absent when the configuration names no client
   * address.
   */
  query?(sql: string, signal: AbortSignal): Promise<string | null>;
  /** Client connections that wait now, or null when the proxy cannot tell. */
  waiting(signal: AbortSignal): Promise<number | null>;
}

/** What a proxy folder's `index.ts` exports as `proxy`. */
export interface ProxyFactory {
  readonly name: string;
  /** Checks one entry of `cutover.proxies` (without `adapter`). Pure. */
  parseConfig(input: unknown): { readonly config: unknown } | { readonly issues: readonly ConfigIssue[] };
  jsonSchema(): object;
  /** Does no I/O. */
  create(config: unknown, env: { readonly log: Logger; readonly failpoints: Failpoints }): ProxyAdapter;
}
