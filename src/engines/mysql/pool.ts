import { VerdigrisError } from '../../core/errors.ts';
import type { Link } from './connect.ts';

/** Connections of one purpose: opened when they are needed, kept while they are idle for a while, never more than `most`. */
export class Pool implements AsyncDisposable {
  readonly #open: () => Promise<Link>;
  readonly #most: number;
  readonly #idle: Link[] = [];
  readonly #busy = new Set<Link>();
  readonly #waiting: (() => void)[] = [];
  #count = 0;
  #closed = false;

  constructor(open: () => Promise<Link>, most: number) {
    this.#open = open;
    this.#most = most;
  }

  async use<T>(work: (link: Link) => Promise<T>): Promise<T> {
    const link = await this.acquire();
    let clean = false;
    try {
      const result = await work(link);
      clean = true;
      return result;
    } catch (error) {
      // A failed statement may leave a transaction open; what cannot be rolled back is not used again.
      clean =
        !link.lost &&
        (await link.run('ROLLBACK').then(
          () => true,
          () => false,
        ));
      throw error;
    } finally {
      this.release(link, !clean);
    }
  }

  async acquire(): Promise<Link> {
    while (this.#count >= this.#most && this.#idle.length === 0 && !this.#closed)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#closed) throw new VerdigrisError('INTERRUPTED', 'The session is closed.');
    let link = this.#idle.pop();
    while (link?.lost === true) {
      this.#count -= 1;
      link = this.#idle.pop();
    }
    if (link === undefined) {
      this.#count += 1;
      try {
        link = await this.#open();
      } catch (error) {
        this.#count -= 1;
        this.#waiting.shift()?.();
        throw error;
      }
      if (this.#closed) {
        link.destroy();
        throw new VerdigrisError('INTERRUPTED', 'The session is closed.');
      }
    }
    this.#busy.add(link);
    return link;
  }

  /** @param broken it is in the middle of something and cannot be used again */
  release(link: Link, broken = false): void {
    this.#busy.delete(link);
    if (broken || link.lost || this.#closed) {
      this.#count -= 1;
      link.destroy();
    } else this.#idle.push(link);
    this.#waiting.shift()?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
    for (const link of this.#busy) link.destroy();
    await Promise.all(this.#idle.splice(0).map((link) => link[Symbol.asyncDispose]()));
  }
}
