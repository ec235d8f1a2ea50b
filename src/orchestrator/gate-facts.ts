import type { Session, Side } from '../core/engine.ts';
import type { ProxyAdapter, ProxyReport, Route } from '../core/proxy.ts';
import type { TableName } from '../core/table.ts';
import type { Clock } from '../core/clock.ts';
import { asVerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { GateFacts } from '../cutover/gates.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';

const SLOW_FACTS_EVERY_MS = 5_000;
/** Farther behind than this nobody switches, and what the servers would be asked costs what catching up needs: seconds, with many tables. */
const FAR_BEHIND_SECONDS = 30;
const PROXY_TIMEOUT_MS = 3_000;

export interface VerificationFact {
  /** Wall clock of the end of the last clean round; null: never. */
  readonly cleanAt: number | null;
  /** Differences of the last round; null: never looked. */
  readonly differences: number | null;
}

export interface GateFactsOptions {
  /** The side that serves. */
  readonly from: Side;
  readonly sessions: Readonly<Record<Side, Session>>;
  readonly tables: Readonly<Record<Side, readonly TableName[]>>;
  readonly foreignWrites: () => GateFacts['foreignWrites'];
  readonly proxies: readonly ProxyAdapter[];
  readonly unmatchedCounters: () => Promise<readonly string[]>;
  /** Why there would be no way back; null: not wanted. */
  readonly wayBack: () => Promise<readonly string[] | null>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What this reader knows; the rest is decided by people, the clock and the last rehearsal. */
export type ReadFacts = Omit<GateFacts, 'rehearsed' | 'approvals' | 'window'>;

interface SlowFacts {
  readonly ddlInProgress: readonly string[] | null;
  readonly invalidIndexes: readonly string[] | null;
  readonly unvalidatedConstraints: readonly string[] | null;
  readonly tablesWithoutStatistics: readonly string[] | null;
  readonly unmatchedCounters: readonly string[] | null;
  readonly wayBack: GateFacts['wayBack'];
  readonly proxies: GateFacts['proxies'];
}

/**
 * Gathers what the gates look at. What asks servers is asked every few seconds, and not while the pipeline is far behind; a fact that cannot be
 * had is null.
 */
export class GateFactsReader {
  readonly #o: GateFactsOptions;
  #slow: SlowFacts | null = null;
  #slowAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | null = null;

  constructor(options: GateFactsOptions) {
    this.#o = options;
  }

  /** `fresh`: ask the servers now, whatever is remembered. */
  async read(
    pipeline: Pipeline | null,
    verification: VerificationFact,
    options: { readonly fresh: boolean; readonly limitSeconds: number },
  ): Promise<ReadFacts> {
    const { clock } = this.#o;
    const lag = pipeline?.lag.commitSeconds ?? null;
    const far = pipeline !== null && (lag === null || lag > FAR_BEHIND_SECONDS);
    if (options.fresh || (!far && clock.monotonic() - this.#slowAt > SLOW_FACTS_EVERY_MS)) {
      this.#reading ??= this.#readSlow().finally(() => {
        this.#reading = null;
      });
      await this.#reading;
    }
    const health = pipeline?.health ?? null;
    const slow = this.#slow;
    return {
      from: this.#o.from,
      lagMs: lag === null ? null : lag * 1000,
      lagStableForMs: lag === null ? null : (pipeline?.lag.stableForMs(options.limitSeconds) ?? null),
      roundTripMs: pipeline?.lag.roundTripMs ?? null,
      copyComplete:
        pipeline === null
          ? null
          : pipeline.copyComplete || pipeline.progress.every((unit) => unit.done === unit.ranges),
      holes: pipeline?.holes ?? null,
      verification: {
        ageMs: verification.cleanAt === null ? null : clock.now() - verification.cleanAt,
        differences: verification.differences,
      },
      foreignWrites: this.#o.foreignWrites(),
      rejects: pipeline?.rejects ?? null,
      oldestTransactionMs: health === null ? null : (health.oldestTransactionSeconds ?? 0) * 1000,
      source: health,
      ddlInProgress: slow?.ddlInProgress ?? null,
      unmatchedCounters: slow?.unmatchedCounters ?? null,
      invalidIndexes: slow?.invalidIndexes ?? null,
      unvalidatedConstraints: slow?.unvalidatedConstraints ?? null,
      tablesWithoutStatistics: slow?.tablesWithoutStatistics ?? null,
      wayBack: slow === null ? null : slow.wayBack,
      proxies: slow?.proxies ?? this.#o.proxies.map(({ name }) => ({ name, route: null, report: null })),
    };
  }

  async #readSlow(): Promise<void> {
    const { from, sessions, tables, proxies } = this.#o;
    const to = from === 'blue' ? 'green' : 'blue';
    const [stops, serves, unmatchedCounters, wayBack, ...routes] = await Promise.all([
      this.#try(() => sessions[from].readiness.read(tables[from])),
      this.#try(() => sessions[to].readiness.read(tables[to])),
      this.#try(() => this.#o.unmatchedCounters()),
      this.#try(async () => (await this.#o.wayBack()) ?? 'not wanted'),
      ...proxies.map((proxy) => this.#proxy(proxy)),
    ]);
    this.#slow = {
      ddlInProgress: stops?.ddlInProgress ?? null,
      invalidIndexes: serves?.invalidIndexes ?? null,
      unvalidatedConstraints: serves?.unvalidatedConstraints ?? null,
      tablesWithoutStatistics: serves?.tablesWithoutStatistics ?? null,
      unmatchedCounters,
      wayBack,
      proxies: routes,
    };
    this.#slowAt = this.#o.clock.monotonic();
  }

  async #proxy(
    proxy: ProxyAdapter,
  ): Promise<{ name: string; route: Route | null; report: ProxyReport | null }> {
    const route = await this.#try(() => proxy.observe(AbortSignal.timeout(PROXY_TIMEOUT_MS)));
    const report = await this.#try(() => proxy.probe(AbortSignal.timeout(PROXY_TIMEOUT_MS)));
    return { name: proxy.name, route, report };
  }

  async #try<T>(ask: () => Promise<T>): Promise<T | null> {
    try {
      return await ask();
    } catch (error) {
      this.#o.log.debug({ code: asVerdigrisError(error).code }, 'a fact for the gates is not known');
      return null;
    }
  }
}
