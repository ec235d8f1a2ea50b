import { randomUUID } from 'node:crypto';
import type { Action, ActionKind } from '../app/envelope.ts';
import { envelopeError } from '../app/envelope.ts';
import type { Redactor } from '../app/redact.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';

interface Entry {
  action: Action;
  readonly ended: Promise<void>;
  /** Somebody has read the outcome. */
  seen: boolean;
}

// What moves traffic or deletes: one at a time.
const EXCLUSIVE: ReadonlySet<ActionKind> = new Set([
  'cutover',
  'rollback',
  'recover',
  'rehearse',
  'abort',
  'finish',
]);
const KEPT = 100;

/** The acts that were asked for: each has an id, a state and, in the end, a result or an error. */
export class ActionBook {
  readonly #entries = new Map<string, Entry>();
  readonly #byKey = new Map<string, string>();
  readonly #redactor: Redactor;

  constructor(redactor: Redactor) {
    this.#redactor = redactor;
  }

  /**
   * Begins an act and returns at once. The same idempotency key gives the act that it began, whatever became of it.
   * @throws VerdigrisError CUTOVER_PHASE while another exclusive act runs; USAGE when the key began another kind
   */
  begin(kind: ActionKind, key: string | undefined, run: () => Promise<unknown>): Action {
    const known = this.find(key);
    if (known) {
      if (known.kind !== kind) {
        throw new VerdigrisError(
          'USAGE',
          `the idempotency key belongs to ${known.kind} ${known.id}, not to a ${kind}`,
        );
      }
      return known;
    }
    if (EXCLUSIVE.has(kind)) {
      for (const { action } of this.#entries.values()) {
        if (action.state === 'running' && EXCLUSIVE.has(action.kind)) {
          throw new VerdigrisError('CUTOVER_PHASE', `${action.kind} ${action.id} is running`, {
            remedy: 'Wait for it to end.',
            context: { action: action.id },
          });
        }
      }
    }
    const id = `${kind}-${randomUUID().slice(0, 8)}`;
    const base = { id, kind, startedAt: new Date().toISOString() };
    const ended = run().then(
      (result) => this.#settle(id, { ...base, state: 'done', result: result ?? null, error: null }),
      (error: unknown) =>
        this.#settle(id, {
          ...base,
          state: 'failed',
          result: null,
          error: envelopeError(asVerdigrisError(error), this.#redactor),
        }),
    );
    const action: Action = { ...base, state: 'running', result: null, error: null };
    this.#entries.set(id, { action, ended, seen: false });
    if (key !== undefined) this.#byKey.set(key, id);
    this.#forget();
    return action;
  }

  find(key: string | undefined): Action | null {
    const id = key === undefined ? undefined : this.#byKey.get(key);
    return id === undefined ? null : (this.#entries.get(id)?.action ?? null);
  }

  /** The act now, or once it has ended, but after `waitMs` at the latest. Null when there is none of that id. */
  async read(id: string, waitMs: number): Promise<Action | null> {
    const entry = this.#entries.get(id);
    if (!entry) return null;
    if (entry.action.state === 'running' && waitMs > 0) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, waitMs);
      });
      await Promise.race([entry.ended, late]);
      clearTimeout(timer);
    }
    if (entry.action.state !== 'running') entry.seen = true;
    return entry.action;
  }

  /** No act is running and every outcome was read: nobody waits for an answer any more. */
  get quiet(): boolean {
    return [...this.#entries.values()].every(({ action, seen }) => seen && action.state !== 'running');
  }

  #settle(id: string, action: Action): void {
    const entry = this.#entries.get(id);
    if (entry) entry.action = action;
  }

  #forget(): void {
    for (const [id, { action }] of this.#entries) {
      if (this.#entries.size <= KEPT) return;
      if (action.state !== 'running') this.#entries.delete(id);
    }
  }
}
