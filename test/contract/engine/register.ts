import { describe } from 'vitest';
import { catalogContract } from './catalog.ts';
import { chunkContract } from './chunk.ts';
import { countersContract } from './counters.ts';
import { digestContract } from './digest.ts';
import { errorsContract } from './errors.ts';
import { fenceContract } from './fence.ts';
import type { EngineHarness } from './harness.ts';
import { positionsContract } from './positions.ts';
import { preflightContract } from './preflight.ts';
import { sinkContract } from './sink.ts';
import { lostSinkContract } from './sink-lost.ts';
import { snapshotContract } from './snapshot.ts';
import { sourceContract } from './source.ts';
import { largeSourceContract } from './source-large.ts';
import { restartContract } from './source-restart.ts';
import { stateContract } from './state.ts';
import { wholeContract } from './whole.ts';

/**
 * What every engine must hold, against real servers. It talks to the engine through `src/core` only; what differs between engines is said
 * by `capabilities` and `traits`, and then asked for in its other form: nothing is left out.
 */
export function registerEngineContract(harness: EngineHarness): void {
  describe(`engine contract: ${harness.name}`, () => {
    positionsContract(harness);
    catalogContract(harness);
    errorsContract(harness);
    sourceContract(harness);
    largeSourceContract(harness);
    restartContract(harness);
    snapshotContract(harness);
    sinkContract(harness);
    lostSinkContract(harness);
    chunkContract(harness);
    digestContract(harness);
    fenceContract(harness);
    countersContract(harness);
    stateContract(harness);
    preflightContract(harness);
    wholeContract(harness);
  });
}
