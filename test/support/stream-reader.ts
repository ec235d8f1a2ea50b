import { randomUUID } from 'node:crypto';
import type { ChangeBatch } from '../../src/core/change.ts';
import type { Position, Positions } from '../../src/core/position.ts';
import type { ChangeSource, ChangeStream } from '../../src/core/source.ts';

/** Reads a stream batch by batch. */
export class Reader {
  readonly stream: ChangeStream;
  readonly batches: ChangeBatch[] = [];
  readonly #iterator: AsyncIterator<ChangeBatch>;

  constructor(stream: ChangeStream) {
    this.stream = stream;
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async next(): Promise<ChangeBatch> {
    const result = await this.#iterator.next();
    if (result.done === true) throw new Error('the stream ended');
    this.batches.push(result.value);
    return result.value;
  }

  /** All batches up to the one that satisfies the condition. */
  async until(wanted: (batch: ChangeBatch) => boolean): Promise<ChangeBatch[]> {
    const seen: ChangeBatch[] = [];
    for (;;) {
      const batch = await this.next();
      seen.push(batch);
      if (wanted(batch)) return seen;
    }
  }

  /** Everything that was committed before the call. */
  async drain(source: ChangeSource, label = `drain ${randomUUID()}`): Promise<ChangeBatch[]> {
    await source.mark(label);
    return this.until((batch) => batch.marks.some((mark) => mark.label === label));
  }

  /** Everything up to a position. */
  reach(positions: Positions, position: Position): Promise<ChangeBatch[]> {
    return this.until(({ end }) => end !== null && positions.covers(end, position));
  }

  /** What is left ends: the stream is closed, or fails. */
  async end(): Promise<unknown> {
    for (;;) {
      try {
        const result = await this.#iterator.next();
        if (result.done === true) return null;
        this.batches.push(result.value);
      } catch (error) {
        return error;
      }
    }
  }

  close(): Promise<void> {
    return Promise.resolve(this.stream[Symbol.asyncDispose]());
  }
}
