import type { z } from 'zod';
import type { ConfigPath } from './path.ts';

interface FlatIssue {
  readonly path: ConfigPath;
  readonly message: string;
}

/** Issues of the schema, one per wrong place; of a union, those of the alternative that was most likely meant. */
export function flattenIssues(
  issues: readonly z.core.$ZodIssue[],
  input: unknown,
  base: ConfigPath = [],
): FlatIssue[] {
  return issues.flatMap((issue): FlatIssue[] => {
    const path = [...base, ...(issue.path as ConfigPath)];
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...path, key], message: `unknown key ${key}` }));
    }
    if (issue.code === 'invalid_union' && issue.errors.length > 0) {
      return flattenIssues(closest(issue.errors, valueAt(input, issue.path as ConfigPath)), input, path);
    }
    if (issue.code === 'invalid_type' && valueAt(input, path) === undefined) {
      return [{ path, message: `required key is missing (${issue.expected})` }];
    }
    return [{ path, message: issue.message.replace(/^Invalid input: /, '') }];
  });
}

// An alternative that does not even have the right type says nothing; among the others, fewer and deeper complaints win.
function closest(branches: readonly z.core.$ZodIssue[][], value: unknown): z.core.$ZodIssue[] {
  const rank = (issues: z.core.$ZodIssue[]): number => {
    let score = 0;
    for (const issue of issues) {
      if (issue.code === 'invalid_type' && issue.path.length === 0) score += 100;
      else if (issue.code === 'unrecognized_keys') score += 2 * issue.keys.length;
      else score += issue.path.length === 0 && typeof value === 'object' ? 5 : 1;
    }
    return score;
  };
  return branches.reduce((best, branch) => (rank(branch) < rank(best) ? branch : best));
}

/** The value at a path of a tree; undefined when it is not there. */
export function valueAt(tree: unknown, path: ConfigPath): unknown {
  let value = tree;
  for (const part of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}
