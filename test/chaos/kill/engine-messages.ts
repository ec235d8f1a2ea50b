import type { CutoverReport, Status } from '../../../src/app/engine.ts';

/** What a test tells an engine in its process. */
export type ToEngine =
  /** Turn as soon as every gate is open; at this failpoint say so and wait for `go`. */
  | { readonly kind: 'turn'; readonly act: 'cutover' | 'rollback'; readonly point: string | null }
  | { readonly kind: 'go' }
  | { readonly kind: 'close' };

/** What it answers. */
export type FromEngine =
  | {
      readonly kind: 'status';
      readonly status: Pick<Status, 'phase' | 'condition' | 'error'>;
      readonly shut: readonly string[];
    }
  | { readonly kind: 'reached'; readonly point: string }
  | { readonly kind: 'outcome'; readonly report: CutoverReport }
  /** The start or the turn was refused. */
  | {
      readonly kind: 'failed';
      readonly what: 'start' | 'turn';
      readonly code: string;
      readonly message: string;
      readonly remedy: string;
    };
