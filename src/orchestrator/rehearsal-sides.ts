import type { Session } from '../core/engine.ts';

/** Both sides, connected under a name of the rehearsal's own: nothing it makes is anything the run has. */
export interface RehearsalSides extends AsyncDisposable {
  /** Of the rehearsal. */
  readonly migration: string;
  readonly blue: Session;
  readonly green: Session;
}
