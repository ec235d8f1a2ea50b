/** Work on the items that come next, begun before it is asked for; results come in the order of the items. */
export class Ahead<Item, Result> implements AsyncDisposable {
  readonly #items: Iterator<Item>;
  readonly #work: (item: Item) => Promise<Result>;
  readonly #begun: Promise<Result>[] = [];
  readonly #most: number;

  /** @param most pieces of work at the same time */
  constructor(items: Iterable<Item>, most: number, work: (item: Item) => Promise<Result>) {
    this.#items = items[Symbol.iterator]();
    this.#most = most;
    this.#work = work;
  }

  /** The result of the next item. Call it once per item. @throws what the work throws */
  async next(): Promise<Result> {
    while (this.#begun.length < this.#most && this.#begin());
    const first = this.#begun.shift();
    if (first === undefined) throw new RangeError('There is no further item.');
    const result = await first;
    // While the caller looks at this one the others go on, and so does one more.
    if (this.#most > 1) this.#begin();
    return result;
  }

  #begin(): boolean {
    const { done, value } = this.#items.next() as IteratorResult<Item, undefined>;
    if (done === true) return false;
    const result = this.#work(value);
    result.catch(() => undefined);
    this.#begun.push(result);
    return true;
  }

  /** Waits for what was begun and nobody will ask for. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#begun.splice(0));
  }
}
