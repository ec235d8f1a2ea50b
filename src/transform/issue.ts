import { VerdigrisError } from '../core/errors.ts';

/** One thing wrong with the mapping. `path` starts at the file's root: `['tables', 0, 'to', 1, 'columns', 'x']`. */
export interface MappingIssue {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Collects problems, so that the operator sees all of them at once. */
export class Issues {
  readonly #issues: MappingIssue[] = [];

  add(path: readonly (string | number)[], message: string): void {
    if (!this.#issues.some((one) => one.message === message && one.path.join('\0') === path.join('\0'))) {
      this.#issues.push({ path, message });
    }
  }

  get count(): number {
    return this.#issues.length;
  }

  /** @throws VerdigrisError MAPPING_INVALID with `context.issues` when there are any */
  check(): void {
    const [first] = this.#issues;
    if (first === undefined) return;
    const more = this.#issues.length === 1 ? '' : ` (and ${this.#issues.length - 1} more)`;
    throw new VerdigrisError('MAPPING_INVALID', `${showPath(first.path)}: ${first.message}${more}`, {
      context: { issues: this.#issues },
    });
  }
}

export const showPath = (path: readonly (string | number)[]): string =>
  path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join('');
