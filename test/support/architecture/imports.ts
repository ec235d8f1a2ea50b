import { posix } from 'node:path';

import { splitSource } from './source-text.ts';

export interface Import {
  specifier: string;
  /** The path below the checkout for a relative specifier, else undefined. */
  target: string | undefined;
  kind: 'static' | 'dynamic' | 'type query';
  line: number;
}

// `import … from 'x'`, `export … from 'x'`, `import 'x'`, with or without `type`. Nothing but names, braces and commas may stand between.
const STATIC = /(?<![\w.$])(?:import|export)\b(?:[\s\w$*{},]*?\bfrom)?\s*(['"])([^'"\n]+)\1/g;
const CALL = /(?<![\w.$])(typeof\s+)?import\s*\(\s*(['"])([^'"\n]+)\2/g;
/** An import whose target no reader can tell: it would pass by every rule. */
const COMPUTED = /(?<![\w.$])import\s*\(\s*(?!['"])/g;

/** All imports of a source, type imports and `import('x').T` included. */
export function importsOf(path: string, text: string): { imports: Import[]; computed: number[] } {
  const { withoutComments, codeOnly } = splitSource(text);
  const lineAt = (index: number): number => withoutComments.slice(0, index).split('\n').length;
  /** A hit inside a string is no import: the keyword must be code. */
  const isCode = (index: number): boolean => codeOnly[index]?.trim() !== '';
  const imports: Import[] = [];
  const add = (index: number, specifier: string, kind: Import['kind']): void => {
    const target = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined;
    imports.push({ specifier, target, kind, line: lineAt(index) });
  };
  for (const hit of withoutComments.matchAll(STATIC))
    if (isCode(hit.index)) add(hit.index, hit[2] ?? '', 'static');
  for (const hit of withoutComments.matchAll(CALL)) {
    if (!isCode(hit.index)) continue;
    const after = withoutComments.slice(hit.index + hit[0].length);
    // `import('x').Name` in a type position reads the module's types; a call is followed by `)` and, at most, `.then`.
    const isType = hit[1] !== undefined || /^\s*\)\s*\.\s*[A-Z]/.test(after);
    add(hit.index, hit[3] ?? '', isType ? 'type query' : 'dynamic');
  }
  const computed = [...withoutComments.matchAll(COMPUTED)]
    .filter((hit) => isCode(hit.index))
    .map((hit) => lineAt(hit.index));
  return { imports, computed };
}

/** Import cycles, each as the list of its files; type imports count, since they tie files together as much for a reader. */
export function findCycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const cycles: string[][] = [];
  const state = new Map<string, 'open' | 'done'>();
  const trail: string[] = [];
  const visit = (file: string): void => {
    state.set(file, 'open');
    trail.push(file);
    for (const next of graph.get(file) ?? []) {
      if (state.get(next) === 'open') cycles.push([...trail.slice(trail.indexOf(next)), next]);
      else if (!state.has(next) && graph.has(next)) visit(next);
    }
    trail.pop();
    state.set(file, 'done');
  };
  for (const file of graph.keys()) if (!state.has(file)) visit(file);
  return cycles;
}
