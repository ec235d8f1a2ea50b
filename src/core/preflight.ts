/** One finding of a check. "Could not check" is not "ok". */
export interface CheckResult {
  /** The id of the reference, e.g. `P10`; several results may carry the same id (one per table). */
  readonly id: string;
  readonly side: 'blue' | 'green' | 'proxy';
  readonly level: 'block' | 'warn' | 'info';
  readonly outcome: 'ok' | 'finding' | 'could-not-check';
  /** What is checked, in a few words. */
  readonly title: string;
  readonly observed: string;
  readonly expected: string;
  /** What to do; empty only when the outcome is ok. */
  readonly remedy: string;
  /** The exact statement where there is one. It is printed, never run. */
  readonly sql?: string;
}
