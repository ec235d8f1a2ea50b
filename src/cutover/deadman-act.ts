import type { Clock } from '../core/clock.ts';
import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { FenceState, WriteFence } from '../core/fence.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import { bounded, deadline, persist } from './budget.ts';
import { confirmRoute } from './proxies.ts';

/** Bound of one look at the record; a side that does not answer is asked again. */
const STATE_MS = 2_000;
const LOWER_MS = 10_000;
const PROXY_MS = 5_000;
/** A `raise` that was on its way when the engine died may still commit: how often, and how soon, an open record is read again. */
const LATE_LOOKS = 4;
const LATE_LOOK_MS = 50;
const GUARD_MS = 100;

export interface StandInOptions {
  /** The side that served when the attempt began. */
  readonly from: Side;
  readonly fence: Pick<WriteFence, 'state' | 'lower'>;
  readonly proxies: readonly ProxyAdapter[];
  readonly epoch: number;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  /** Its life. */
  readonly signal: AbortSignal;
  readonly note: (event: string, detail: Readonly<Record<string, unknown>>) => void;
}

/**
 * `restored`: the side that served is open and every proxy works on it · `sealed`: the switch went through, nothing was touched ·
 * `superseded`: a later attempt stands in the record, nothing was touched · `expired`: its life ended before that.
 */
export type StandInOutcome = 'restored' | 'sealed' | 'superseded' | 'expired';

/**
 * Takes a switch back in place of its engine, with nothing but `lower` and the proxies: it wins `lower` first, and only then
 * points proxies back and resumes them. The record is read again before each of those acts, since another engine may have
 * been started in the meantime.
 */
export class StandIn {
  readonly #o: StandInOptions;

  constructor(options: StandInOptions) {
    this.#o = options;
  }

  /** Never rejects. */
  async takeBack(): Promise<StandInOutcome> {
    const { note, failpoints, signal, clock } = this.#o;
    for (;;) {
      try {
        const record = await this.#openRecord();
        if (record !== 'open') return record;
        await failpoints.hit('deadman.lowered');
        await this.#restoreAll();
        await failpoints.hit('deadman.restored');
        return 'restored';
      } catch (caught) {
        const error = asVerdigrisError(caught);
        if (error instanceof Superseded) return 'superseded';
        note('deadman.failed', { code: error.code, message: error.message });
        if (signal.aborted) return 'expired';
      }
      await clock.sleep(LATE_LOOK_MS, signal).catch(() => undefined);
    }
  }

  /**
   * An engine that was only frozen goes on where it stood: a `raise` or a route that it sends late is taken back as well.
   * Until the signal fires or a later attempt stands in the record. Never rejects.
   */
  async guard(until: AbortSignal, proxiesToo: () => boolean): Promise<void> {
    const { clock, fence, epoch, proxies, note } = this.#o;
    while (!until.aborted) {
      await clock.sleep(GUARD_MS, until).catch(() => undefined);
      if (until.aborted) return;
      try {
        const record = await this.#bounded(STATE_MS, 'reading the record', () => fence.state());
        if (record.state === 'sealed' || record.epoch > epoch) return;
        const late = record.state === 'raised';
        const strayed = !late && proxiesToo() && (await this.#strayed(proxies));
        if (!late && !strayed) continue;
        note('deadman.late', { act: late ? 'raise' : 'route' });
        if ((await this.takeBack()) !== 'restored') return;
      } catch {
        // It does not answer: the next look will tell.
      }
    }
  }

  /** Until the record says open, by our own `lower` or by somebody else's. */
  async #openRecord(): Promise<'open' | 'sealed' | 'superseded'> {
    const { fence, epoch, clock, signal, note } = this.#o;
    const patiently = <T>(act: () => Promise<T>): Promise<T> => persist(act, { clock, signal });
    let looks = 0;
    for (;;) {
      const record: FenceState = await patiently(() =>
        this.#bounded(STATE_MS, 'reading the record', () => fence.state()),
      );
      if (record.state === 'sealed') return 'sealed';
      if (record.epoch > epoch || (record.state === 'raised' && record.epoch !== epoch)) return 'superseded';
      if (record.state === 'raised') {
        // Lost, or its answer was lost: the record is read again.
        const won = await patiently(() =>
          this.#bounded(LOWER_MS, 'lowering the fence', () => fence.lower(epoch)),
        );
        note('deadman.lower', { epoch, won });
        if (won) return 'open';
        continue;
      }
      // With this epoch it was lowered already; with an older one it was never raised, or not yet.
      if (record.epoch === epoch || ++looks > LATE_LOOKS) return 'open';
      await clock.sleep(LATE_LOOK_MS, signal);
    }
  }

  /** Each proxy for itself, until it works on the side that served: one that does not answer keeps only its own clients waiting. */
  async #restoreAll(): Promise<void> {
    const { proxies, clock, signal, note } = this.#o;
    const results = await Promise.allSettled(
      proxies.map(async (proxy) => {
        const acted = await persist(() => this.#restore(proxy), {
          clock,
          signal,
          hopeless: (error) => error instanceof Superseded || error instanceof Raised,
        });
        note('deadman.resumed', { proxy: proxy.name, acted });
      }),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** False when nothing was to be done. */
  async #restore(proxy: ProxyAdapter): Promise<boolean> {
    const { clock, epoch, from, signal } = this.#o;
    const late = `${proxy.name} did not answer within ${PROXY_MS} ms.`;
    using limit = deadline(clock, PROXY_MS, late, [signal]);
    const { signal: within } = limit;
    await this.#requireOpen();
    const route = await bounded(proxy.observe(within), within);
    if (route.to === from && !route.paused) return false;
    // Also when it shows that side: its configuration may be the other's already and only not loaded.
    await bounded(proxy.route(from, epoch, within), within);
    await confirmRoute(proxy, from, within);
    await this.#requireOpen();
    await bounded(proxy.resume(within), within);
    return true;
  }

  async #requireOpen(): Promise<void> {
    const { fence, epoch } = this.#o;
    const record = await this.#bounded(STATE_MS, 'reading the record', () => fence.state());
    if (record.state === 'open' && record.epoch <= epoch) return;
    if (record.state === 'raised' && record.epoch === epoch) throw new Raised();
    throw new Superseded();
  }

  async #strayed(proxies: readonly ProxyAdapter[]): Promise<boolean> {
    const routes = await Promise.allSettled(
      proxies.map((proxy) => this.#bounded(PROXY_MS, proxy.name, (within) => proxy.observe(within))),
    );
    return routes.some((route) => route.status === 'fulfilled' && route.value.to !== this.#o.from);
  }

  async #bounded<T>(ms: number, what: string, act: (within: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, signal } = this.#o;
    using limit = deadline(clock, ms, `${what} took longer than ${ms} ms.`, [signal]);
    return await bounded(act(limit.signal), limit.signal);
  }
}

/** Another decision stands in the record. */
class Superseded extends VerdigrisError {
  constructor() {
    super('CUTOVER_PHASE', 'A later attempt stands in the record.');
  }
}

/** The raise of the lost engine arrived after all. */
class Raised extends VerdigrisError {
  constructor() {
    super('CUTOVER_PHASE', 'The fence was raised late.');
  }
}
