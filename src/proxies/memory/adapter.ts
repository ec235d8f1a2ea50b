import { VerdigrisError } from '../../core/errors.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { ProxyAdapter, ProxyReport, Route } from '../../core/proxy.ts';

type Side = 'blue' | 'green';

/** A transaction that was let in; it runs on `side` until it leaves. */
export interface Admission {
  readonly side: Side;
  leave(): void;
}

/**
 * What stands for the proxy itself: its state outlives every adapter, as that of a real one does. For tests of the
 * cutover's logic; it forwards nothing.
 */
export class MemoryProxyState {
  side: Side = 'blue';
  paused = false;
  /** A proxy that cannot be reached: every call fails. */
  unreachable = false;
  readonly #running = new Set<Admission>();
  readonly #waiting = new Set<() => void>();
  readonly #idle = new Set<() => void>();

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** A client's transaction: waits while the proxy is paused, then runs on the side it points at. */
  async enter(): Promise<Admission> {
    while (this.paused) {
      await new Promise<void>((resolve) => {
        const go = (): void => {
          this.#waiting.delete(go);
          resolve();
        };
        this.#waiting.add(go);
      });
    }
    const admission: Admission = {
      side: this.side,
      leave: () => {
        this.#running.delete(admission);
        if (this.#running.size === 0) for (const go of this.#idle) go();
      },
    };
    this.#running.add(admission);
    return admission;
  }

  release(): void {
    this.paused = false;
    for (const go of this.#waiting) go();
  }

  /** Resolves when no transaction runs; false when the signal fires first. */
  async drained(signal: AbortSignal): Promise<boolean> {
    if (this.#running.size === 0) return true;
    if (signal.aborted) return false;
    return new Promise((resolve) => {
      const settle = (done: boolean) => (): void => {
        this.#idle.delete(idle);
        signal.removeEventListener('abort', late);
        resolve(done);
      };
      const idle = settle(true);
      const late = settle(false);
      this.#idle.add(idle);
      signal.addEventListener('abort', late, { once: true });
    });
  }
}

/** {@link ProxyAdapter} over a {@link MemoryProxyState}. */
export class MemoryProxy implements ProxyAdapter {
  readonly name: string;
  readonly promise = { holdsStatements: true, keepsConnections: true } as const;
  readonly state: MemoryProxyState;
  readonly #failpoints: Failpoints;

  constructor(name: string, state: MemoryProxyState, failpoints: Failpoints) {
    this.name = name;
    this.state = state;
    this.#failpoints = failpoints;
  }

  async probe(signal: AbortSignal): Promise<ProxyReport> {
    this.#reach(signal);
    const findings = this.state.paused
      ? [{ level: 'block', text: `${this.name} is paused already`, remedy: 'Resume it.' } as const]
      : [];
    return { name: this.name, version: 'memory', holdsForMs: null, findings };
  }

  async observe(signal: AbortSignal): Promise<Route> {
    this.#reach(signal);
    return { to: this.state.side, paused: this.state.paused };
  }

  async pause(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.memory.pause');
    this.#reach(signal);
    this.state.paused = true;
    if (!(await this.state.drained(signal))) {
      throw new VerdigrisError('PROXY_TIMEOUT', `${this.name}: transactions are still running.`, {
        cause: signal.reason,
      });
    }
  }

  async route(side: Side, _epoch: number, signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.memory.route');
    this.#reach(signal);
    this.state.side = side;
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.memory.resume');
    this.#reach(signal);
    this.state.release();
  }

  async waiting(signal: AbortSignal): Promise<number | null> {
    this.#reach(signal);
    return this.state.waiting;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #reach(signal: AbortSignal): void {
    if (signal.aborted)
      throw new VerdigrisError('PROXY_TIMEOUT', `${this.name} did not answer in time.`, {
        cause: signal.reason,
      });
    if (this.state.unreachable)
      throw new VerdigrisError('PROXY_UNREACHABLE', `${this.name} cannot be reached.`);
  }
}
