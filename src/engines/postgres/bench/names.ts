import { withoutNames, type PostgresConfig } from '../config.ts';
import { publicationName, slotName } from '../source-names.ts';

/** The migration that is measured. No configuration can have a name with a dot, so the objects named after it are nobody else's. */
export const MIGRATION = 'bench.throwaway';

/** Schemas on both sides: blue's tables and the peer's on green; ours on green; our state. */
export const SCHEMAS = {
  peer: 'verdigris_bench',
  ours: 'verdigris_bench_ours',
  state: 'verdigris_bench_state',
} as const;

/** Comment of our schemas: one without it is somebody's, whatever its name. */
export const MADE_BY = 'made by verdigris bench, which removes it';

const FORWARD = { direction: 'forward' } as const;
const WATCH = { direction: 'reverse', watch: true } as const;

/** Slots and publications, the same on both sides. */
export function namesOf(given: PostgresConfig) {
  const config = withoutNames(given);
  const peer = slotName(config, 'bench.peer', FORWARD);
  const all = (name: typeof slotName): string[] => [
    name(config, MIGRATION, FORWARD),
    name(config, MIGRATION, { direction: 'reverse' }),
    name(config, MIGRATION, WATCH),
    peer,
  ];
  return {
    /** Slot, publication and subscription of the peer. */
    peer,
    ourSlot: slotName(config, MIGRATION, FORWARD),
    slots: all(slotName),
    publications: all(publicationName),
  };
}
