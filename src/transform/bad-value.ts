import { DocumentMisfit } from '../core/document.ts';

/**
 * A value that an operation cannot take. Thrown, never returned, and not an Error: bad rows may come by the million and
 * a stack trace costs more than the row. The reason must not hold the value.
 */
export class BadValue {
  readonly reason: string;
  /** Set where the operation has a policy of its own; else that of the column counts. */
  readonly policy: 'fail' | 'reject' | null;

  constructor(reason: string, policy: 'fail' | 'reject' | null = null) {
    this.reason = reason;
    this.policy = policy;
  }
}

/** @throws BadValue for a document that does not fit */
export function fitting<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof DocumentMisfit) throw new BadValue(error.reason);
    throw error;
  }
}
