import type { Clock } from '../core/clock.ts';
import type { Engine, Session } from '../core/engine.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { Phase } from '../core/state.ts';
import type { MappingSource } from './compiled.ts';
import type { DeadmanStarter } from './deadman.ts';
import type { RehearsalSides } from './rehearsal-sides.ts';
import type { Settings } from './settings.ts';

export interface MigrationOptions {
  readonly settings: Settings;
  readonly mapping: MappingSource['spec'];
  /** Functions of the mapping's modules, `path#export`. */
  readonly modules: MappingSource['modules'];
  readonly engine: Engine;
  readonly blue: Session;
  readonly green: Session;
  readonly proxies: readonly ProxyAdapter[];
  readonly log: Logger;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  /** Makes who takes a switch back when this engine cannot; absent: nobody does. */
  readonly deadman?: DeadmanStarter;
  /** Connects both sides once more, for a rehearsal; absent: none can be held. */
  readonly connectRehearsal?: () => Promise<RehearsalSides>;
  /** Who this engine is, for the lease: host and process. */
  readonly holder: string;
  /** Take the lease even when another holder's is fresh. */
  readonly takeover?: boolean;
  /** The phase of the run when this engine takes it, and then each that it enters, in their order. Must not throw. */
  readonly onPhase?: ((phase: Phase) => void) | undefined;
  readonly planSalt: {
    /** The configuration without secrets, as canonical JSON. */
    readonly configuration: string;
    readonly schemaSql: string | null;
    readonly serverVersions: { readonly blue: string; readonly green: string };
  };
}
