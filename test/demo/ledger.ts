/** What the parent process tells the clients. */
export type ToClients =
  | { readonly kind: 'start'; readonly options: ClientOptions }
  /** Every client ends its transaction and stays. */
  | { readonly kind: 'hold' };

export interface ClientOptions {
  readonly url: string;
  readonly count: number;
  readonly thinkMs: number;
  readonly customers: number;
  readonly products: number;
  readonly warehouses: number;
}

/** What the clients tell the parent process. */
export type FromClients =
  | { readonly kind: 'connected' }
  | { readonly kind: 'progress'; readonly committed: number; readonly failed: number }
  | { readonly kind: 'ledger'; readonly ledger: Ledger };

/** What the clients know, and nobody told them. */
export interface Ledger {
  /** Transactions whose COMMIT was answered. */
  readonly committed: readonly string[];
  /** Every error a client saw, also a read that did not give what the client had written. */
  readonly failures: readonly Failure[];
  /** Answers that took long: when the statement was sent, and for how long its client waited. */
  readonly waits: readonly Wait[];
  readonly byAction: Readonly<Record<string, number>>;
  /** Connections opened anew after one was ended. Not there where a connection outlives a switch: its end is a failure. */
  readonly reconnects?: number;
}

/** The ledger while the clients write in it. */
export interface Book {
  committed: string[];
  failures: Failure[];
  waits: Wait[];
  byAction: Record<string, number>;
  reconnects?: number;
}

export interface Failure {
  readonly transaction: string;
  readonly action: string;
  readonly message: string;
  readonly atMs: number;
}

/** Milliseconds; `atMs` since 1970. */
export interface Wait {
  readonly atMs: number;
  readonly ms: number;
}

/** The longest time a client waited for an answer that came after `fromMs`, to a statement sent before `untilMs`; milliseconds since 1970. */
export function longestWait(waits: readonly Wait[], fromMs: number, untilMs: number): number {
  let longest = 0;
  for (const { atMs, ms } of waits)
    if (atMs + ms >= fromMs && atMs <= untilMs) longest = Math.max(longest, ms);
  return Math.round(longest);
}
