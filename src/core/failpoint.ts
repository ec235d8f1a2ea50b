/**
 * Named places where a test can make the engine die, throw, hang or stop. Compiled in, off by default, set by `app` from
 * `VERDIGRIS_FAILPOINT=name:action[@n]` (the n-th time it is reached).
 */
export interface Failpoints {
  /** Costs one property read when off. */
  hit(name: string): Promise<void> | void;
}

export const NO_FAILPOINTS: Failpoints = { hit: () => undefined };
