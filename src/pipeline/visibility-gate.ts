import type { Clock } from '../core/clock.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { SnapshotSource, Visibility } from '../core/snapshot.ts';

const FIRST_WAIT_MS = 2;
const LONGEST_WAIT_MS = 250;
/** Transactions that passed without a look; past that a look thins them out. */
const MOST_REMEMBERED = 10_000;
/** After this a wait is worth telling. */
const TELL_AFTER_MS = 2_000;

/**
 * While a range is being copied, a group commits only when every transaction in it is visible to new snapshots of the source: a
 * commit can be streamed before it is visible (synchronous replication, a descheduled backend), and a snapshot taken then
 * would bring back the old row after the change has been passed.
 */
export class VisibilityGate {
  readonly #snapshot: SnapshotSource;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #onWaiting: (reason: string | null) => void;
  #unseen: string[] = [];

  constructor(options: {
    readonly snapshot: SnapshotSource;
    readonly clock: Clock;
    readonly settings: { readonly visibilityTimeoutMs: number };
    readonly onWaiting: (reason: string | null) => void;
  }) {
    this.#snapshot = options.snapshot;
    this.#clock = options.clock;
    this.#timeoutMs = options.settings.visibilityTimeoutMs;
    this.#onWaiting = options.onWaiting;
  }

  /** A transaction was decided. */
  note(transaction: string): void {
    if (this.#unseen.at(-1) !== transaction) this.#unseen.push(transaction);
  }

  /** @throws VerdigrisError SOURCE_VISIBILITY after the bound; nothing was committed. */
  async pass(copying: boolean, signal: AbortSignal): Promise<void> {
    if (!copying) {
      // Not forgotten: rows may be read again later (a repair), and then these must be visible first.
      if (this.#unseen.length > MOST_REMEMBERED) await this.#look();
      return;
    }
    if (this.#unseen.length === 0) return;
    const started = this.#clock.monotonic();
    let wait = FIRST_WAIT_MS;
    let told = false;
    for (;;) {
      const visibility = await this.#look();
      const first = this.#unseen[0];
      if (first === undefined) break;
      const waited = this.#clock.monotonic() - started;
      if (waited > this.#timeoutMs) {
        throw new VerdigrisError(
          'SOURCE_VISIBILITY',
          `Transaction ${first} is committed but still invisible on the source.`,
          {
            context: { transaction: first, snapshot: visibility.describe() },
          },
        );
      }
      if (!told && waited > TELL_AFTER_MS) {
        told = true;
        this.#onWaiting(`waiting for commit visibility of transaction ${first}`);
      }
      await this.#clock.sleep(wait, signal);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
    if (told) this.#onWaiting(null);
  }

  async #look(): Promise<Visibility> {
    const visibility = await this.#snapshot.visibility();
    this.#unseen = this.#unseen.filter((transaction) => !visibility.sees(transaction));
    return visibility;
  }
}
