import type { VerdigrisError } from '../core/errors.ts';
import type { Hole } from '../core/sink.ts';
import { showTable } from '../core/table.ts';

/** A row of the source that the sink cannot hold as it is. Never holds a value besides its key. */
export interface Misfit {
  /** As people write it: of the source where the mapping did not take the row, of the sink where a constraint there refused it. */
  readonly table: string;
  readonly key: readonly (string | null)[];
  /** Column or condition that failed; empty where it is the whole row. */
  readonly column: string;
  readonly reason: string;
}

/**
 * Whether the sink holds everything that was written on the source so far: on the way back, whether a rollback would fit right now.
 * As current as the stream: what has not arrived yet is what lag and drain speak of.
 */
export interface Fit {
  /** Null: not known, because the stream was not open yet. */
  readonly fits: boolean | null;
  /** Rows known not to fit. Behind a refused one (`blocked`) nothing is looked at, so there may be more. */
  readonly misfits: number;
  readonly blocked: boolean;
  readonly first: Misfit | null;
}

export interface FitFacts {
  readonly opened: boolean;
  readonly rejected: number;
  readonly firstRejected: Hole | null;
  /** Rows whose place on the sink is known to be wrong until they are read again. */
  readonly incomplete: number;
  /** What the stream is stopped at, or null. */
  readonly blockedBy: VerdigrisError | null;
}

/** What a change runs into that the sink cannot take: it stops the stream, unlike what the mapping rejects. */
const REFUSED: ReadonlySet<string> = new Set([
  'SINK_CONFLICT',
  'MAPPING_VALUE',
  'SCHEMA_UNSUPPORTED',
  'SINK_FAILED',
]);

export function fitOf({ opened, rejected, firstRejected, incomplete, blockedBy }: FitFacts): Fit {
  const refused = blockedBy !== null && REFUSED.has(blockedBy.code) ? blockedBy : null;
  if (!opened && refused === null && rejected === 0)
    return { fits: null, misfits: 0, blocked: false, first: null };
  const misfits = rejected + (refused === null ? 0 : 1);
  const first =
    firstRejected === null ? (refused === null ? null : refusedRow(refused)) : rejectedRow(firstRejected);
  // A row that is about to be read again may turn out either way.
  const fits = misfits > 0 ? false : incomplete > 0 ? null : true;
  return { fits, misfits, blocked: refused !== null, first };
}

const rejectedRow = ({ table, key, column, reason }: Hole): Misfit => ({
  table: showTable(table),
  key: key.map((cell) => (cell === null ? null : String(cell))),
  column,
  reason,
});

function refusedRow({ message, context }: VerdigrisError): Misfit {
  const { table, key, column } = context as Readonly<Record<string, unknown>>;
  const cells = typeof key === 'object' && key !== null && !Array.isArray(key) ? Object.values(key) : [];
  return {
    table: typeof table === 'string' ? table : '',
    key: cells.map((cell: unknown) => (cell === null ? null : String(cell))),
    column: typeof column === 'string' ? column : '',
    reason: message,
  };
}
