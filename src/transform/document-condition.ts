import type { ASTNode } from '@marcbachmann/cel-js';
import {
  DocumentMisfit,
  type DocumentCell,
  type DocumentFormat,
  type DocumentPath,
  type DocumentValue,
} from '../core/document.ts';
import { isDelta, type Cell } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { parseCondition, walk, WithoutText, type Condition } from './condition.ts';
import { partOfDocument } from './document.ts';
import { covers } from './document-path.ts';
import { conditionValue } from './row-value.ts';

const WITHOUT_TEXT = new WithoutText();

/** A map of the row that a condition sees; without a prototype, since names are whatever documents have. */
interface Names {
  [name: string]: unknown;
}

/**
 * Compiles a CEL expression over the fields of documents: `row.customer.city`, `row["a.b"].c`. A field that is not there is null. Numbers, booleans
 * and text are themselves, dates and ids their text; documents, arrays and the rest can only be tested for null.
 * Null and the reported problem when it is not valid.
 */
export function compileDocumentCondition(
  text: string,
  { index, format }: { readonly index: number; readonly format: DocumentFormat },
  problem: (message: string) => void,
): Condition | null {
  const parsed = parseCondition(text, problem);
  if (parsed === null) return null;
  const found = new Map<string, DocumentPath>();
  let known = true;
  const complain = (message: string): void => {
    known = false;
    problem(message);
  };
  collect(parsed.ast, (path) => found.set(path.join('\0'), path), complain);
  const paths = [...found.values()];
  for (const path of paths) {
    const inside = paths.find((other) => other !== path && covers(path, other));
    if (inside !== undefined)
      complain(`reads ${shown(path)} and ${shown(inside)}, which is inside it: name only one of them`);
  }
  if (!known) return null;

  const read = format.reader(paths);
  const value = scriptValueOf(format);
  const row = Object.create(null) as Names;
  const places = paths.map((path) => placeOf(row, path));
  return {
    text,
    inputs: [index],
    anyNotNull: null,
    test(tuple) {
      const document = tuple[index] as Cell;
      if (isDelta(document)) throw partOfDocument();
      try {
        for (const [at, one] of read(document as DocumentCell).entries())
          (places[at] as (value: unknown) => void)(one === null ? null : value(one));
      } catch (error) {
        if (error instanceof DocumentMisfit) throw new BadValue(`reads a field that ${error.reason}`);
        throw error;
      }
      return parsed.test(row);
    },
  };
}

const shown = (path: DocumentPath): string =>
  `row${path.map((name) => (/^[A-Za-z_]\w*$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`)).join('')}`;

/** Makes the maps on the way, once, and gives what sets the value at their end. */
function placeOf(row: Names, path: DocumentPath): (value: unknown) => void {
  let map = row;
  for (const name of path.slice(0, -1)) map = (map[name] ??= Object.create(null)) as Names;
  const last = path.at(-1) as string;
  return (value) => {
    map[last] = value;
  };
}

/** @throws DocumentMisfit where a type that has a text has a value that has none */
function scriptValueOf(format: DocumentFormat): (value: DocumentValue) => unknown {
  const types = Object.entries(format.types).map(([word, kind]) => ({
    word,
    of:
      kind === 'boolean'
        ? (text: string | null): unknown => text === 'true'
        : (conditionValue(kind) as (text: string | null) => unknown),
  }));
  return (value) => {
    const type = types.find(({ word }) => format.isOf(value, word));
    if (type !== undefined) return type.of(format.text(value));
    try {
      return format.text(value);
    } catch (error) {
      if (error instanceof DocumentMisfit) return WITHOUT_TEXT;
      throw error;
    }
  };
}

function collect(
  node: ASTNode,
  found: (path: DocumentPath) => void,
  complain: (message: string) => void,
): void {
  const path = pathOf(node);
  if (path !== null && path.length > 0) {
    found(path);
    return;
  }
  if (path !== null) complain('uses row without naming a field: write row.name or row["name"]');
  else if (node.op === 'call' && (node.args as unknown[])[0] === 'has')
    complain('uses has(): a field that is not there is null, so write row.name != null');
  else walk(node.args, (child) => collect(child, found, complain));
}

/** `row.a["b"]`; empty for `row` itself, null for anything else. */
function pathOf(node: ASTNode): string[] | null {
  if (node.op === 'id') return node.args === 'row' ? [] : null;
  if (node.op !== '.' && node.op !== '[]') return null;
  const [object, key] = node.args as [ASTNode, string | ASTNode];
  const above = pathOf(object);
  if (above === null) return null;
  if (typeof key === 'string') return [...above, key];
  return key.op === 'value' && typeof key.args === 'string' ? [...above, key.args] : null;
}
