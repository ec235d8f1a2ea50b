import type { Status } from '../../src/app/engine.ts';
import type { Load } from './load.ts';

/** In this time the gates must open: of the switch after the start of the engine, of the rollback after the switch. */
const GATES_MS = { replicating: 150_000, reversing: 60_000 } as const;
type Waits = keyof typeof GATES_MS;

/** What the statuses of the engine tell over time. */
export class Run implements Disposable {
  #open = Promise.withResolvers<void>();
  #timer: NodeJS.Timeout | undefined;
  #phase: Waits = 'replicating';
  #over = false;
  #last: Status | null = null;
  #copyFrom: number | null = null;
  #copied: { readonly rows: number; readonly seconds: number } | null = null;

  constructor() {
    this.#open.promise.catch(() => undefined);
    this.#bound();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  take(status: Status): void {
    this.#last = status;
    const now = performance.now();
    if (status.phase === 'copying') this.#copyFrom ??= now;
    else if (this.#copyFrom !== null)
      this.#copied ??= { rows: status.copy.rows, seconds: (now - this.#copyFrom) / 1_000 };
    const { state, detail, differences } = status.verify;
    if (state === 'error' || state === 'fail') {
      this.#fail(`the verification did not pass: ${differences} differences; ${detail ?? 'no detail'}`);
    }
    const ready = status.gates.length > 0 && status.gates.every(({ ok }) => ok);
    if (status.phase === this.#phase && ready) this.#open.resolve();
  }

  /** Resolves with the next status in which every gate is open: of the switch, or of the rollback. */
  gatesOpen(phase: Waits = 'replicating'): Promise<void> {
    if (phase !== this.#phase) {
      this.#phase = phase;
      this.#bound();
    }
    if (!this.#over) {
      this.#open = Promise.withResolvers<void>();
      this.#open.promise.catch(() => undefined);
    }
    return this.#open.promise;
  }

  last(): Status {
    if (this.#last === null) throw new Error('the engine has not told its status');
    return this.#last;
  }

  /** Of the last verification. */
  differences(): number {
    return this.#last?.verify.differences ?? 0;
  }

  copyRowsPerSecond(): number {
    return this.#copied === null ? 0 : Math.round(this.#copied.rows / this.#copied.seconds);
  }

  #bound(): void {
    clearTimeout(this.#timer);
    const ms = GATES_MS[this.#phase];
    this.#timer = setTimeout(
      () => this.#fail(`not ready after ${ms / 1_000} s of ${this.#phase}: ${this.#state()}`),
      ms,
    );
  }

  #fail(why: string): void {
    this.#over = true;
    this.#open.reject(new Error(why));
  }

  #state(): string {
    if (this.#last === null) return 'no status came';
    const { phase, condition, reason, gates } = this.#last;
    const shut = gates.filter(({ ok }) => !ok).map((gate) => `${gate.name} (${gate.reason})`);
    return `${phase}, ${condition} ${reason}; shut: ${shut.join(', ')}`;
  }
}

/** One line of a status, beside what the clients have done so far. */
export function progressLine(status: Status, clients: Load['progress']): string {
  const { phase, condition, copy, lag, gates, verify } = status;
  const open = gates.filter(({ ok }) => ok).length;
  const seconds = (value: number | null): string => (value === null ? '?' : `${value.toFixed(1)} s`);
  return [
    `${phase}${condition === 'running' ? '' : ` (${condition}: ${status.reason})`}`,
    `copied ${copy.rows.toLocaleString('en')} rows, ${Math.round(copy.bytes / 1_048_576)} MiB`,
    `lag ${seconds(lag.commitSeconds)}`,
    `verify ${verify.state}`,
    `gates ${open}/${gates.length}`,
    `clients ${clients.committed.toLocaleString('en')} committed, ${clients.failed} failed`,
  ].join(' · ');
}
