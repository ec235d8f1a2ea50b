import type { RowRun } from '../../core/change.ts';
import { isCopy, type Work } from './sink-program.ts';
import { columnList } from './sink-statements.ts';
import { copyText } from './sink-text.ts';
import { BatchFailure, type Outcome, type Statement, type Wire } from './sink-wire.ts';

/** A step of a program failed; what came before it in the program stands in `done`. */
export interface ProgramFailure {
  readonly work: Work | null;
  readonly before: readonly Work[];
  readonly error: unknown;
}

/** Runs a program: as few batches as COPY allows. @throws BatchFailure with the index in the program */
export async function execute(wire: Wire, program: readonly Work[]): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  let pending: Statement[] = [];
  const flush = async (): Promise<void> => {
    const start = outcomes.length;
    const batch = pending;
    pending = [];
    try {
      outcomes.push(...(await wire.run(batch)));
    } catch (failure) {
      throw failure instanceof BatchFailure
        ? new BatchFailure(start + failure.index, failure.error)
        : failure;
    }
  };
  for (const work of program) {
    if (!isCopy(work)) {
      pending.push(work);
      continue;
    }
    await flush();
    const { place, run, columns } = work.copy;
    const text = `COPY ${place.sql} (${columnList(place.layout, columns)}) FROM STDIN`;
    try {
      const rows = await wire.copy(text, copyChunks(run, columns));
      outcomes.push({ tag: `COPY ${rows}`, rows: [] });
    } catch (error) {
      throw new BatchFailure(outcomes.length, error);
    }
  }
  await flush();
  return outcomes;
}

const COPY_ROWS = 1_000;

export function* copyChunks(run: RowRun, columns: readonly number[]): Generator<Uint8Array> {
  for (let at = 0; at < run.after.length; at += COPY_ROWS) {
    yield Buffer.from(copyText(run.after.slice(at, at + COPY_ROWS), columns));
  }
}
