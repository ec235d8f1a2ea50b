import type { Session } from '../core/engine.ts';
import type { ProxyAdapter, ProxyReport, Route } from '../core/proxy.ts';
import type { TableName } from '../core/table.ts';
import type { Clock } from '../core/clock.ts';
import { asVerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { GateFacts } from '../cutover/gates.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';

const SLOW_FACTS_EVERY_MS = 5_000;
const PROXY_TIMEOUT_MS = 3_000;

export interface VerificationFact {
  /** Wall clock of the end of the last clean round; null: never. */
  readonly cleanAt: number | null;
  /** Differences of the last round; null: never looked. */
  readonly differences: number | null;
}

export interface GateFactsOptions {
  readonly blue: Session;
  readonly green: Session;
  readonly proxies: readonly ProxyAdapter[];
  readonly blueTables: readonly TableName[];
  readonly greenTables: readonly TableName[];
  readonly unmatchedCounters: () => Promise<readonly string[]>;
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
  readonly proxies: GateFacts['proxies'];
}

/** Gathers what the gates look at. What asks servers is asked every few seconds; a fact that cannot be had is null. */
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
    if (options.fresh || clock.monotonic() - this.#slowAt > SLOW_FACTS_EVERY_MS) {
      this.#reading ??= this.#readSlow().finally(() => {
        this.#reading = null;
      });
      await this.#reading;
    }
    const lag = pipeline?.lag.commitSeconds ?? null;
    const health = pipeline?.health ?? null;
    const slow = this.#slow;
    return {
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
      rejects: pipeline?.rejects ?? null,
      oldestTransactionMs: health === null ? null : (health.oldestTransactionSeconds ?? 0) * 1000,
      source: health,
      ddlInProgress: slow?.ddlInProgress ?? null,
      unmatchedCounters: slow?.unmatchedCounters ?? null,
      invalidIndexes: slow?.invalidIndexes ?? null,
      unvalidatedConstraints: slow?.unvalidatedConstraints ?? null,
      tablesWithoutStatistics: slow?.tablesWithoutStatistics ?? null,
      proxies: slow?.proxies ?? this.#o.proxies.map(({ name }) => ({ name, route: null, report: null })),
    };
  }

  async #readSlow(): Promise<void> {
    const { blue, green, blueTables, greenTables, proxies } = this.#o;
    const [onBlue, onGreen, unmatchedCounters, ...routes] = await Promise.all([
      this.#try(() => blue.readiness.read(blueTables)),
      this.#try(() => green.readiness.read(greenTables)),
      this.#try(() => this.#o.unmatchedCounters()),
      ...proxies.map((proxy) => this.#proxy(proxy)),
    ]);
    this.#slow = {
      ddlInProgress: onBlue?.ddlInProgress ?? null,
      invalidIndexes: onGreen?.invalidIndexes ?? null,
      unvalidatedConstraints: onGreen?.unvalidatedConstraints ?? null,
      tablesWithoutStatistics: onGreen?.tablesWithoutStatistics ?? null,
      unmatchedCounters,
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
