import { VerdigrisError } from '../core/errors.ts';
import type { Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';
import type { Rehearsal } from './rehearsal-result.ts';
import { clearRehearsal, rehearse } from './rehearsal.ts';
import type { RehearsalOptions } from './rehearsal-stage.ts';
import type { SwitchControl } from './switch-control.ts';

/** Holds rehearsals of a run, and removes what one that was killed has left. */
export class Rehearsals {
  readonly #o: MigrationOptions;
  readonly #holder: string;
  readonly #control: SwitchControl;

  constructor(options: MigrationOptions, holder: string, control: SwitchControl) {
    this.#o = options;
    this.#holder = holder;
    this.#control = control;
  }

  /** One at a time, and not beside a switch. */
  hold(held: Held, signal: AbortSignal): Promise<Rehearsal> {
    return this.#control.rehearse(() => rehearse(this.#options(held, signal)));
  }

  /** After a kill in the middle of one; nothing when there was none. */
  async clear(held: Held | null, signal: AbortSignal): Promise<void> {
    if (held === null || !this.#control.rehearsing) return;
    await this.#control.cleared(() => clearRehearsal(this.#options(held, signal)));
  }

  #options(held: Held, signal: AbortSignal): RehearsalOptions {
    const { engine, proxies, settings, clock, failpoints, log, connectRehearsal } = this.#o;
    const nothing = (): Promise<never> =>
      Promise.reject(new VerdigrisError('USAGE', 'This engine was made without a way to rehearse.'));
    return {
      held: held.forward,
      connect: connectRehearsal ?? nothing,
      engine,
      proxies,
      settings,
      holder: this.#holder,
      planHash: held.state.record?.planHash ?? '',
      clock,
      failpoints,
      log,
      signal,
    };
  }
}
