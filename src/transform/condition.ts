import { Environment, type ASTNode } from '@marcbachmann/cel-js';
import type { Cell, Relation, Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { hint } from './closest.ts';
import { conditionValue } from './row-value.ts';

/** A compiled `when` or `emit_when`. */
export interface Condition {
  readonly text: string;
  /** Blue columns it reads. */
  readonly inputs: readonly number[];
  /** Set when it says no more than that one of these columns is not null. */
  readonly anyNotNull: readonly number[] | null;
  /** @throws BadValue when the expression fails on the row, as a comparison with null does */
  test(tuple: Tuple): boolean;
}

/** Stands in conditions for what is there and has no text: only a test for null says something about it. */
export class WithoutText {}

const environment = new Environment()
  .registerVariable('row', 'dyn')
  .registerType('value_without_text', WithoutText);

type Row = Readonly<Record<string, unknown>>;

/** Null and the reported problem when it is no valid CEL expression over `row`. */
export function parseCondition(
  text: string,
  problem: (message: string) => void,
): {
  readonly ast: ASTNode;
  /** @throws BadValue when the expression fails on the row */
  readonly test: (row: Row) => boolean;
} | null {
  let evaluate: ReturnType<Environment['parse']>;
  try {
    evaluate = environment.parse(text);
  } catch (error) {
    problem(`is not a CEL expression: ${firstLine(error)}`);
    return null;
  }
  const checked = evaluate.check();
  if (!checked.valid) {
    problem(`is not a CEL expression: ${firstLine(checked.error)}`);
    return null;
  }
  if (checked.type !== 'bool' && checked.type !== 'dyn') {
    problem(`is ${String(checked.type)}, not true or false`);
    return null;
  }
  return {
    ast: evaluate.ast,
    test(row) {
      let result: unknown;
      try {
        result = evaluate({ row });
      } catch (error) {
        // The message may quote values; the code does not.
        throw new BadValue(
          `cannot be evaluated (${codeOf(error)}); a comparison with null needs a test for null before it`,
        );
      }
      if (typeof result !== 'boolean') throw new BadValue('is neither true nor false');
      return result;
    },
  };
}

/**
 * Compiles a CEL expression over `row`. Every use of `row` must name a column, so that what the condition depends on is known.
 * Null and the reported problem when it is not valid.
 */
export function compileCondition(
  text: string,
  relation: Relation,
  problem: (message: string) => void,
): Condition | null {
  const parsed = parseCondition(text, problem);
  if (parsed === null) return null;
  const names = new Set<string>();
  let known = true;
  const complain = (message: string): void => {
    known = false;
    problem(message);
  };
  collect(parsed.ast, names, complain);
  const columns = relation.columns.map((column) => column.name);
  for (const name of names) {
    if (!columns.includes(name))
      complain(`reads row.${name}, which is no column of blue${hint(name, columns)}`);
  }
  if (!known) return null;

  const inputs = [...names].map((name) => columns.indexOf(name));
  const reads = inputs.map((index) => ({
    index,
    name: columns[index] as string,
    value: conditionValue((relation.columns[index] as Relation['columns'][number]).kind),
  }));
  const wanted = anyNotNull(parsed.ast)?.map((name) => columns.indexOf(name)) ?? null;
  // One object for all rows: an evaluation keeps nothing of it.
  const row: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const { name } of reads) row[name] = null;
  return {
    text,
    inputs,
    anyNotNull: wanted,
    test(tuple) {
      // Most conditions of a child table are no more than this.
      if (wanted !== null) return wanted.some((index) => tuple[index] !== null);
      for (const { index, name, value } of reads) row[name] = value(tuple[index] as Cell);
      return parsed.test(row);
    },
  };
}

const firstLine = (error: unknown): string =>
  error instanceof Error ? (error.message.split('\n')[0] as string) : 'unknown';

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : 'error';

function collect(node: ASTNode, names: Set<string>, complain: (message: string) => void): void {
  const name = columnOf(node);
  if (name !== null) {
    names.add(name);
    return;
  }
  if (node.op === 'id') {
    if (node.args === 'row') complain('uses row without naming a column: write row.name or row["name"]');
    return;
  }
  walk(node.args, (child) => collect(child, names, complain));
}

/** The columns of `row.a != null || row.b != null`; null when it is anything else. */
function anyNotNull(node: ASTNode): string[] | null {
  if (node.op === '||') {
    const [left, right] = (node.args as [ASTNode, ASTNode]).map(anyNotNull);
    return left && right ? [...left, ...right] : null;
  }
  if (node.op !== '!=') return null;
  const sides = node.args as [ASTNode, ASTNode];
  const name = sides.map(columnOf).find((one) => one !== null);
  const isNull = sides.some((side) => side.op === 'value' && side.args === null);
  return name !== undefined && name !== null && isNull ? [name] : null;
}

/** `row.name`, `row["name"]`. */
function columnOf(node: ASTNode): string | null {
  if (node.op !== '.' && node.op !== '[]') return null;
  const [object, key] = node.args as [ASTNode, string | ASTNode];
  if (object.op !== 'id' || object.args !== 'row') return null;
  if (typeof key === 'string') return key;
  return key.op === 'value' && typeof key.args === 'string' ? key.args : null;
}

/** Calls back for every node inside. */
export function walk(part: unknown, visit: (node: ASTNode) => void): void {
  if (Array.isArray(part)) for (const inner of part) walk(inner, visit);
  else if (typeof part === 'object' && part !== null && 'op' in part) visit(part as ASTNode);
}
