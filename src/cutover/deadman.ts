/**
 * Somebody beside the engine who takes the switch back when the engine cannot: holds its connections before the first proxy is
 * paused, and acts when the engine dies or freezes before the seal. One for each attempt.
 */
export interface Deadman {
  /**
   * Resolves, with a line for the report, when it holds its connections and listens.
   * @throws VerdigrisError when it cannot be started or cannot reach blue or a proxy
   */
  arm(signal: AbortSignal): Promise<string>;
  /** Fires when it is gone or has taken over though nobody disarmed it; the reason is a VerdigrisError. */
  readonly lost: AbortSignal;
  /**
   * Resolves while it is certain that it has not taken over. Costs nothing while it answered a moment ago; asks it when the
   * engine stood still since. Before {@link arm}: resolves.
   * @throws VerdigrisError CUTOVER_UNDONE
   */
  confirm(signal: AbortSignal): Promise<void>;
  /** Nothing is left to take back: it ends. Never rejects; resolves when it has ended. */
  disarm(): Promise<void>;
  /** The engine gives up before it knows how things stand: what it left is taken back by this one alone. */
  abandon(): void;
}

/** The longest silence of the engine during a switch that is not yet taken for its end, ms. */
export const silenceFor = (maxWritePauseMs: number): number =>
  Math.min(2_500, Math.max(1_000, maxWritePauseMs / 4));

/** How long it may be armed, ms: pause budget, seal and the slowest undo. Then it ends, which undoes what still runs. */
export const armedLifeFor = (maxWritePauseMs: number): number => maxWritePauseMs + 120_000;

/** How long it keeps trying after the engine was lost, ms. */
export const ACTING_LIFE_MS = 10 * 60_000;
