import type { Side } from '../core/engine.ts';
import type { TableName } from '../core/table.ts';

/** A side or proxy as its engine or adapter understands it, as JSON. */
export interface Described {
  readonly name: string;
  readonly config: unknown;
}

/** Everything the dead-man must know, on its standard input: addresses hold passwords, which belong in no argument list. */
export interface DeadmanJob {
  readonly migration: string;
  readonly engine: string;
  /** The side that serves and is fenced: whose record it lowers. The journal is on green. */
  readonly from: Side;
  readonly blue: { readonly config: unknown; readonly stateSchema: string };
  /** The side that serves and is fenced: whose record it lowers. The journal is on green. */
  readonly green: { readonly config: unknown; readonly stateSchema: string };
  readonly proxies: readonly Described[];
  /** Fenced tables of that side. */
  readonly tables: readonly TableName[];
  readonly epoch: number;
  readonly silenceMs: number;
  readonly armedLifeMs: number;
  readonly actingLifeMs: number;
  /** Kept out of its log. */
  readonly secrets: readonly string[];
  /** Environment of the engine, for adapters that start programs. */
  readonly env: Readonly<Record<string, string>>;
  readonly failpoints: string;
  /** Where it writes what it did; null: nowhere. */
  readonly reportFile: string | null;
}

/** One JSON object per line, from the engine. The end of the stream means that the engine is gone. */
export type ToDeadman =
  | { readonly kind: 'job'; readonly job: DeadmanJob }
  | { readonly kind: 'beat'; readonly beat: number }
  | { readonly kind: 'disarm' };

/** And from the dead-man. */
export type FromDeadman =
  | { readonly kind: 'armed'; readonly pid: number; readonly ms: number }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string; readonly remedy: string }
  /** Answer to a beat. `trouble`: blue or a proxy does not answer it any more. */
  | { readonly kind: 'watching'; readonly beat: number; readonly trouble: string | null }
  /** It acts from now on. */
  | { readonly kind: 'acting'; readonly why: string };

export const encode = (message: ToDeadman | FromDeadman): string => `${JSON.stringify(message)}\n`;

/** Null for a line that is no message of ours. */
export function decode<Message extends { readonly kind: string }>(
  line: string,
  kinds: readonly Message['kind'][],
): Message | null {
  try {
    const value: unknown = JSON.parse(line);
    if (value === null || typeof value !== 'object' || !('kind' in value)) return null;
    return kinds.some((kind) => kind === value.kind) ? (value as Message) : null;
  } catch {
    return null;
  }
}

export const TO_DEADMAN = ['job', 'beat', 'disarm'] as const;
export const FROM_DEADMAN = ['armed', 'refused', 'watching', 'acting'] as const;
