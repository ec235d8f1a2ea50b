import type { Side } from '../core/engine.ts';
import type { TableName } from '../core/table.ts';
import type { Deadman } from '../cutover/deadman.ts';

/** One attempt, for whoever starts the process beside the engine. */
export interface DeadmanOrder {
  readonly epoch: number;
  readonly maxWritePauseMs: number;
  /** The side that serves and is fenced by the attempt. */
  readonly from: Side;
  /** Fenced tables of that side. */
  readonly tables: readonly TableName[];
}

/** Makes one for an attempt. Starts nothing yet. */
export type DeadmanStarter = (order: DeadmanOrder) => Deadman;

// What both ends of the pipe are made of: the processes are started by the composition root, which sees no deeper than here.
export { ACTING_LIFE_MS, armedLifeFor, silenceFor, type Deadman } from '../cutover/deadman.ts';
export { StandIn, type StandInOutcome } from '../cutover/deadman-act.ts';
export {
  decode,
  encode,
  FROM_DEADMAN,
  TO_DEADMAN,
  type DeadmanJob,
  type FromDeadman,
  type ToDeadman,
} from '../cutover/deadman-protocol.ts';
export { Certainty, Vigil } from '../cutover/deadman-vigil.ts';
