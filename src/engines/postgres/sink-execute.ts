import type { RowRun } from '../../core/change.ts';
import { isCopy, type Work } from './sink-program.ts';
import type { Place } from './sink-layout.ts';
import { binaryCopy, binaryForm } from './sink-binary.ts';
import { columnList, typeOf } from './sink-statements.ts';
import { copyBytes } from './sink-copy-text.ts';
import type { Outcome, Wire } from './sink-wire.ts';

/** A step of a program failed; what came before it in the program stands in `done`. */
export interface ProgramFailure {
  readonly work: Work | null;
  readonly before: readonly Work[];
  readonly error: unknown;
}

/** Runs a program in one round trip. @throws BatchFailure with the index in the program */
export function execute(wire: Wire, program: readonly Work[]): Promise<readonly Outcome[]> {
  return wire.run(
    program.map((work) => {
      if (!isCopy(work)) return work;
      const { place, run, columns } = work.copy;
      const text = `COPY ${place.sql} (${columnList(place.layout, columns)}) FROM STDIN`;
      // All of it before anything is sent: what cannot be encoded must not leave half a batch on the connection.
      const binary = binaryChunks(place, run, columns);
      if (binary !== null) return { text: `${text} (FORMAT binary)`, values: [], data: binary };
      return { text, values: [], data: [...copyChunks(run, columns)] };
    }),
  );
}

const COPY_ROWS = 1_000;

/** Rows of a COPY in its binary format; null when a column or a value has to go as text. */
function binaryChunks(place: Place, run: RowRun, columns: readonly number[]): readonly Buffer[] | null {
  const forms = columns.map((column) => binaryForm(typeOf(place.layout, column)));
  if (!forms.every((form) => form !== undefined)) return null;
  return binaryCopy(run.after, columns, forms, COPY_ROWS);
}

export function* copyChunks(run: RowRun, columns: readonly number[]): Generator<Buffer> {
  for (let at = 0; at < run.after.length; at += COPY_ROWS) {
    yield copyBytes(run.after.slice(at, at + COPY_ROWS), columns);
  }
}
