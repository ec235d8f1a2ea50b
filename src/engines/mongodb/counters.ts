import type { Counters } from '../../core/counters.ts';

/** The server has no generators of numbers; what applications count in documents is replicated like any other document. */
export const NO_COUNTERS: Counters = {
  list: () => Promise.resolve([]),
  advance: () => Promise.resolve([]),
};
