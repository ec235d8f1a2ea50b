import { compileDocument, type DocumentOptions, type DocumentProgram } from './document.ts';
import { parsePath, samePath } from './document-path.ts';
import type { ColumnSpec, ReverseSpec } from './spec.ts';

/**
 * The way back of a mapped document: fields that were only moved come back by themselves, what was made of others needs an entry under
 * `reverse: columns:`, since nobody but the operator knows what type blue has. A document is written as a whole, so that what does
 * not come back would be lost: then there is no way, and the reason says which fields.
 */
export function documentBack(
  forward: DocumentProgram,
  reverse: ReverseSpec['columns'],
  options: Options,
): Back {
  const { fields, drop, keep } = forward;
  if (!keep) return { reason: 'fields that the mapping does not name are not on green' };
  const columns: Record<string, ColumnSpec> = { '*': 'copy', ...reverse };
  const lost: string[] = [];
  const isBack = (name: string): boolean => Object.hasOwn(columns, name);
  for (const { name, sources, moved } of fields) {
    for (const source of sources) {
      if ((source.path[0] === options.key && !forward.rekeyed) || isBack(source.name)) continue;
      const kept = fields.find((field) => field.name === source.name);
      if (kept?.moved === true && kept.sources[0]?.name === source.name) continue;
      if (moved) columns[source.name] = { from: name };
      else lost.push(`${source.name}: write under reverse: columns: how it comes back from ${name}`);
    }
  }
  for (const { name, path } of drop) {
    const inside = fields.some(({ sources }) => sources.some((source) => samePath(source.path, path)));
    if (!isBack(name) && !inside) lost.push(`${name}: it is dropped`);
  }
  if (forward.rekeyed && !isBack(options.key))
    lost.push(`${options.key}: write under reverse: columns: how it comes back`);
  if (lost.length > 0) return { reason: [...new Set(lost)].join('; ') };
  const read = new Set(
    Object.values(columns).flatMap((spec) =>
      typeof spec === 'string'
        ? []
        : [
            ...(spec.from === undefined ? [] : [spec.from]),
            ...(spec.of === undefined ? [] : Array.isArray(spec.of) ? spec.of : Object.values(spec.of)),
          ],
    ),
  );
  // What blue never had: constants, and what was made of several fields.
  const extra = fields
    .map(({ name }) => name)
    .filter((name) => !read.has(name) && !isBack(name) && !comesBackItself(forward, name));
  return compiled(columns, extra, reverse, options);
}

type Back = { readonly program: DocumentProgram } | { readonly reason: string };
type Options = Omit<DocumentOptions, 'columns' | 'drop' | 'side'>;

function compiled(
  columns: Readonly<Record<string, ColumnSpec>>,
  drop: readonly string[],
  reverse: ReverseSpec['columns'],
  options: Options,
): Back {
  const problems: string[] = [];
  const program = compileDocument({
    ...options,
    columns,
    drop,
    side: 'green',
    problem: (path, message) => {
      problems.push(message);
      // What is wrong with what was derived is no mistake of the operator.
      if (Object.hasOwn(reverse ?? {}, path[1] ?? '')) options.problem(path, message);
    },
  });
  return program === null ? { reason: problems.join('; ') } : { program };
}

/**
 * The way back of a document of which the mapping takes some fields only, as a part of green's: those fields, made of the fields of green. What else
 * blue has stays there, so every field that comes back has to be one of blue's document itself, and none of another document in it.
 */
export function partBack(forward: DocumentProgram, reverse: ReverseSpec['columns'], options: Options): Back {
  const { fields } = forward;
  if (forward.rekeyed) return { reason: `${options.key} is made anew` };
  const columns: Record<string, ColumnSpec> = { ...reverse };
  const isBack = (name: string): boolean => Object.hasOwn(columns, name);
  const lost: string[] = [];
  for (const { name, sources, moved } of fields) {
    if (sources.every(({ path }) => path[0] === options.key))
      lost.push(`${name}: it is there where the document is, which then does not come back`);
    for (const source of sources) {
      if (source.path[0] === options.key || isBack(source.name)) continue;
      const kept = fields.find((field) => field.name === source.name);
      if (kept?.moved === true && kept.sources[0]?.name === source.name) columns[source.name] = 'copy';
      else if (moved) columns[source.name] = { from: name };
      else lost.push(`${source.name}: write under reverse: columns: how it comes back from ${name}`);
    }
  }
  for (const name of Object.keys(columns)) {
    const path = parsePath(name);
    if (typeof path !== 'string' && path.length > 1)
      lost.push(`${name}: it is inside of ${path[0]}, of which the rest is not on green`);
  }
  if (lost.length > 0) return { reason: [...new Set(lost)].join('; ') };
  return compiled(columns, [], reverse, options);
}

/** `x: copy`: the field is on both sides. */
const comesBackItself = ({ fields }: DocumentProgram, name: string): boolean =>
  fields.some((field) => field.name === name && field.moved && field.sources[0]?.name === name);
