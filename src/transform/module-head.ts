import type { Cell, Column, Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { hint } from './closest.ts';
import { derived, type Shape } from './operations/operation.ts';
import { scriptValue } from './row-value.ts';
import type { Problem, Scope } from './scope.ts';
import { moduleKey, type ColumnObject } from './spec.ts';

interface ModuleHead {
  readonly inputs: readonly number[];
  readonly text: string;
  readonly head: (tuple: Tuple) => string | null;
  readonly shape: Shape;
  readonly steps: readonly [];
  readonly reason: string;
  readonly pure: boolean;
}

/** Rows on which a function that says it is pure is called twice. */
const TWICE = 64;

/**
 * A function of a module as the beginning of a pipeline. It is called with the row, or with the value and the row where `from` names a
 * column; the row holds `from` and `of` where they are given, else every column. It must answer at once (no promise) with text, a
 * number, a boolean or null; what it throws is a bad value, without its message, which may quote the row.
 */
export function moduleHead(
  spec: ColumnObject,
  column: Column,
  scope: Scope,
  problem: Problem,
): ModuleHead | null {
  const file = spec.module as string;
  const exported = spec.export ?? 'default';
  const call = scope.modules.get(moduleKey(file, exported));
  if (call === undefined) {
    problem(['module'], `${file} has no function ${exported}, or was not loaded`);
    return null;
  }
  const inputs = inputsOf(spec, scope, problem);
  if (inputs === null) return null;
  const reads = inputs.map((index) => {
    const { name, kind } = scope.columns[index] as Column;
    return { index, name, value: scriptValue(kind) };
  });
  const valueOf = spec.from === undefined ? null : (reads[0] as (typeof reads)[number]);
  const once = (tuple: Tuple): string | null => {
    const row: Record<string, unknown> = {};
    for (const { index, name, value } of reads) row[name] = value(tuple[index] as Cell);
    let result: unknown;
    try {
      result = valueOf === null ? call(row) : call(row[valueOf.name], row);
    } catch {
      throw new BadValue(`${exported} threw`);
    }
    return resultText(result, column, exported);
  };
  const pure = spec.pure ?? true;
  let left = pure ? TWICE : 0;
  const head = (tuple: Tuple): string | null => {
    const result = once(tuple);
    if (left > 0) {
      left -= 1;
      if (once(tuple) !== result) {
        throw new BadValue(`${exported} gave two results for one row; write pure: false if it may`, 'fail');
      }
    }
    return result;
  };
  return {
    inputs,
    text: `module ${exported}`,
    head,
    shape: derived(column.kind === 'boolean' ? 'boolean' : 'text', true),
    steps: [],
    reason: 'a function has no derived way back',
    pure,
  };
}

function inputsOf(spec: ColumnObject, scope: Scope, problem: Problem): number[] | null {
  const { from, of } = spec;
  if (from === undefined && of === undefined) return scope.columns.map((_, index) => index);
  const names = [
    ...(from === undefined ? [] : [from]),
    ...(of === undefined ? [] : Array.isArray(of) ? of : Object.values(of)),
  ];
  const known = scope.columns.map((column) => column.name);
  const inputs: number[] = [];
  for (const name of new Set(names)) {
    const index = known.indexOf(name);
    if (index >= 0) inputs.push(index);
    else
      problem(
        [name === from ? 'from' : 'of'],
        `${name} is no column of ${scope.side ?? 'blue'}${hint(name, known)}`,
      );
  }
  return inputs.length === new Set(names).size ? inputs : null;
}

function resultText(result: unknown, column: Column, exported: string): string | null {
  if (result === null || typeof result === 'string') return result;
  if (typeof result === 'bigint') return String(result);
  if (typeof result === 'boolean') return column.kind === 'boolean' ? (result ? 't' : 'f') : String(result);
  if (typeof result === 'number' && Number.isFinite(result)) return String(result);
  if (result === undefined) throw new BadValue(`${exported} gave nothing back`);
  if (result instanceof Promise) {
    // Nobody will wait for it: without this its failure would end the process.
    result.catch(() => undefined);
    throw new BadValue(`${exported} gave a promise; it must answer at once`, 'fail');
  }
  if (typeof result === 'object' && column.kind === 'json') return JSON.stringify(result);
  throw new BadValue(`${exported} gave something that is not text, a number, a boolean or null`);
}
