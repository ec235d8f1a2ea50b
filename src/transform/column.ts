import type { Cell, Column, Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { hint } from './closest.ts';
import { backOf, chain, elementPart, type ElementPart } from './column-back.ts';
import { constantFor } from './constant.ts';
import { moduleHead } from './module-head.ts';
import type { DocumentColumn } from './document-column.ts';
import { toTarget } from './operations/cast.ts';
import { asIsProblem, IDENTITY } from './operations/convert.ts';
import { extract } from './operations/json.ts';
import {
  derived,
  textOf,
  type Inverse,
  type Shape,
  type Step,
  type StepContext,
} from './operations/operation.ts';
import { COLUMN_OPTIONS, HEADS, OPERATIONS } from './operations/registry.ts';
import type { Problem, Scope } from './scope.ts';
import type { ColumnObject, OperationName, Scalar } from './spec.ts';

/** How one column of green is made. */
export interface ColumnProgram {
  /** Index in the green relation. */
  readonly column: number;
  readonly name: string;
  /** Indexes of what it reads: blue's columns, then the element of an exploded array. */
  readonly inputs: readonly number[];
  /** The input whose cell is written as it is, without a look at it; null when something is computed. */
  readonly copy: number | null;
  readonly constant: { readonly cell: Cell } | null;
  /** Needs every input. @throws BadValue */
  readonly evaluate: (tuple: Tuple) => Cell;
  readonly policy: 'fail' | 'reject';
  readonly operation: string;
  readonly inverse: Inverse;
  /** The way back needs this part and its sibling; both keep what they were given. */
  /** It is made of one place in the element of an exploded array, and how the text that stands there comes back. */
  readonly element: ElementPart | null;
  /** May be null where its inputs are not. */
  readonly nullable: boolean;
  readonly splitPart: { readonly by: string; readonly take: 'first' | 'rest' } | null;
  readonly pure: boolean;
  /** Merge: the cell while the part's row does not exist. */
  readonly absent: Cell;
  /** Set where fields of a document are mapped. */
  readonly document?: DocumentColumn;
}

/** Whether a column of green is made of this one of blue, as far as the way back is concerned: a document has a column of its own for that. */
export const isMadeOf = ({ document, inputs }: ColumnProgram, index: number): boolean =>
  document === undefined ? inputs.includes(index) : document.gives === index;

interface Start {
  readonly inputs: readonly number[];
  readonly text: string;
  /** Null when the first input's cell is the value. */
  readonly head: ((tuple: Tuple) => string | null) | null;
  readonly shape: Shape;
  readonly steps: readonly Step[];
  readonly reason: string | null;
  readonly pure: boolean;
}

/** Compiles one column; null after reporting why not. Paths are relative to the column's entry. */
export function compileColumn(
  spec: ColumnObject,
  target: { readonly index: number; readonly column: Column },
  scope: Scope,
  problem: Problem,
): ColumnProgram | null {
  const { column } = target;
  checkOptions(spec, problem);
  const constant = (value: Scalar | undefined, key: string): { cell: string | null } | null =>
    value === undefined ? null : constantFor(value, column, (message) => problem([key], message));
  const absent = constant(spec.absent, 'absent')?.cell ?? null;
  if (spec.value !== undefined) {
    const value = constant(spec.value, 'value');
    return value === null ? null : constantProgram(target, value.cell, absent);
  }
  const start = startOf(spec, column, scope, problem);
  if (start === null) return null;
  const steps = stepsOf(spec, start, column, problem);
  if (steps === null) return null;

  const fallback = constant(spec.default, 'default');
  const replacement = replacementOf(spec, column, problem);
  const shape = steps.at(-1)?.output ?? start.shape;
  const nullable = shape.nullable && (fallback === null || fallback.cell === null);
  const required = nullable && !column.nullable;
  // A cast of which nothing is left to do is a copy.
  const idle = steps.every((step) => step.apply === IDENTITY) && !start.shape.derived;
  const plain = start.head === null && idle && fallback === null && !required;
  const names = start.inputs.map((index) => (scope.columns[index] as Column).name);
  return {
    column: target.index,
    name: column.name,
    inputs: start.inputs,
    copy: plain ? (start.inputs[0] as number) : null,
    constant: null,
    evaluate: plain
      ? cellAt(start.inputs[0] as number)
      : evaluator({ start, steps, fallback: fallback?.cell ?? null, required, replacement }),
    policy: spec.on_error === 'reject' ? 'reject' : 'fail',
    operation: describe(start, steps, names, column, spec),
    inverse:
      start.reason === null
        ? backOf({
            steps,
            defaulted: fallback !== null && shape.nullable,
            replaced: replacement !== null,
            blue: scope.columns[start.inputs[0] as number] as Column,
          })
        : { reason: start.reason },
    element:
      scope.element >= 0 && start.inputs.length === 1 && start.inputs[0] === scope.element
        ? elementPart(steps)
        : null,
    nullable: (nullable && !required) || replacement?.cell === null,
    splitPart: splitPartOf(spec, start, steps),
    pure: start.pure,
    absent,
  };
}

const cellAt =
  (index: number) =>
  (tuple: Tuple): Cell =>
    tuple[index] as Cell;

function checkOptions(spec: ColumnObject, problem: Problem): void {
  const names = operationNames(spec);
  const allowed = new Set<string>(COLUMN_OPTIONS);
  for (const name of names) {
    for (const option of OPERATIONS[name]?.options ?? HEADS[name]?.options ?? []) allowed.add(option);
  }
  if (spec.cast !== undefined) for (const option of OPERATIONS.cast?.options ?? []) allowed.add(option);
  if (spec.module !== undefined) allowed.add('of');
  for (const key of Object.keys(spec)) {
    if (spec[key as keyof ColumnObject] !== undefined && !allowed.has(key))
      problem([key], `${key} does nothing here`);
  }
  const sources = (['value', 'module'] as const).filter((key) => spec[key] !== undefined);
  if (sources.length > 1) problem(['value'], 'value and module exclude each other');
  if (
    spec.value !== undefined &&
    (spec.from !== undefined || spec.op !== undefined || spec.cast !== undefined)
  ) {
    problem(['value'], 'value is a constant: from, op and cast do nothing beside it');
  }
  if (spec.module === undefined && spec.export !== undefined) problem(['export'], 'export needs module');
}

const operationNames = (spec: ColumnObject): OperationName[] =>
  spec.op === undefined
    ? []
    : typeof spec.op === 'string'
      ? [spec.op]
      : spec.op.map((one) => (typeof one === 'string' ? one : one.op));

function constantProgram(target: { index: number; column: Column }, cell: Cell, absent: Cell): ColumnProgram {
  return {
    column: target.index,
    name: target.column.name,
    inputs: [],
    copy: null,
    constant: { cell },
    evaluate: () => cell,
    policy: 'fail',
    operation: 'value',
    inverse: { reason: 'a constant' },
    element: null,
    nullable: cell === null,
    splitPart: null,
    pure: true,
    absent,
  };
}

function startOf(spec: ColumnObject, column: Column, scope: Scope, problem: Problem): Start | null {
  if (spec.module !== undefined) return moduleHead(spec, column, scope, problem);
  const first = operationNames(spec)[0];
  const headOperation = first === undefined ? undefined : HEADS[first];
  if (first !== undefined && headOperation !== undefined) {
    if (spec.from !== undefined) problem(['from'], `${first} reads of, not from`);
    const named = spec.of ?? [];
    const pairs = Array.isArray(named) ? named.map((name) => [name, name] as const) : Object.entries(named);
    if (pairs.length === 0) problem(['op'], `${first} needs of: the columns`);
    const inputs: { key: string; index: number }[] = [];
    for (const [key, name] of pairs) {
      const index = indexOf(name, scope, problem, ['of']);
      if (index !== null) inputs.push({ key, index });
    }
    if (pairs.length === 0 || inputs.length < pairs.length) return null;
    const head = headOperation.compile({
      inputs: inputs.map(({ key, index }) => ({ key, column: scope.columns[index] as Column })),
      options: spec,
      problem: (message, option) => problem([option ?? 'op'], message),
    });
    if (head === null) return null;
    const indexes = inputs.map(({ index }) => index);
    return {
      inputs: [...new Set(indexes)],
      text: head.text,
      head: (tuple) => head.apply(indexes.map((index) => textOf(tuple[index] as Cell))),
      shape: head.output,
      steps: [],
      reason: head.reason,
      pure: true,
    };
  }
  return fromColumn(spec, column, scope, problem);
}

function fromColumn(spec: ColumnObject, column: Column, scope: Scope, problem: Problem): Start | null {
  const name = spec.from ?? column.name;
  const element = scope.columns[scope.element];
  const inside = element !== undefined && (name === element.name || name.startsWith(`${element.name}.`));
  const exact = scope.columns.findIndex((one) => one.name === name);
  const plain = { text: '', head: null, reason: null, pure: true };
  if (inside && (exact < 0 || exact === scope.element)) {
    const path = name === element.name ? [] : name.slice(element.name.length + 1).split('.');
    const shape: Shape = derived('json', true);
    const raw = { ...plain, inputs: [scope.element], shape };
    if (path.length === 0 && operationNames(spec)[0] === 'json_get') return { ...raw, steps: [] };
    const more = operationNames(spec).length > 0;
    const asJson = column.kind === 'json' && !more;
    const step: Step = {
      text: path.length === 0 ? '' : `json_get ${path.join('.')}`,
      apply: extract(path, asJson),
      path,
      output: derived(asJson ? 'json' : 'text', true),
      inverse: { reason: 'one element of several' },
    };
    return { ...raw, steps: [step] };
  }
  const index = indexOf(name, scope, problem, spec.from === undefined ? [] : ['from']);
  if (index === null) return null;
  const { kind, type, nullable, labels } = scope.columns[index] as Column;
  const shape: Shape = { kind, type, nullable, derived: false, ...(labels === undefined ? {} : { labels }) };
  return { ...plain, inputs: [index], shape, steps: [] };
}

function indexOf(name: string, scope: Scope, problem: Problem, path: readonly string[]): number | null {
  const index = scope.columns.findIndex((column) => column.name === name);
  if (index >= 0) return index;
  const known = scope.columns.map((column) => column.name);
  problem(path, `${name} is no column of ${scope.side ?? 'blue'}${hint(name, known)}`);
  return null;
}

/** Operations in order, then the cast, then what is left to green's own type. Null after a problem. */
function stepsOf(spec: ColumnObject, start: Start, target: Column, problem: Problem): Step[] | null {
  const steps = [...start.steps];
  const listed = spec.op === undefined ? [] : typeof spec.op === 'string' ? [spec.op] : spec.op;
  let failed = false;
  const context = (options: ColumnObject, path: readonly string[], last: boolean): StepContext => ({
    input: steps.at(-1)?.output ?? start.shape,
    options,
    target,
    last,
    problem: (message, option) => {
      failed = true;
      problem(
        option === undefined ? path : path.length === 0 || option === 'op' ? [option] : [...path, option],
        message,
      );
    },
  });
  for (const [index, one] of listed.entries()) {
    const name = typeof one === 'string' ? one : one.op;
    if (name === 'copy') continue;
    if (HEADS[name] !== undefined) {
      if (index === 0) continue;
      problem(['op'], `${name} reads several columns and must come first`);
      return null;
    }
    const operation = OPERATIONS[name];
    if (operation === undefined) continue;
    const own = typeof one !== 'string';
    const { op: _, ...options } = own ? one : spec;
    const made = operation.compile(
      context(options, own ? ['op', String(index)] : [], index === listed.length - 1),
    );
    if (made === null) return null;
    steps.push(made);
  }
  if (spec.cast !== undefined && !operationNames(spec).includes('cast')) {
    const made = OPERATIONS.cast?.compile(context(spec, [], true)) ?? null;
    if (made === null) return null;
    steps.push(made);
  }
  const shape = steps.at(-1)?.output ?? start.shape;
  if (!shape.derived) {
    const reason = asIsProblem(shape, target);
    if (reason !== null) {
      problem([], `${reason}; write cast: ${target.type}, or an operation`);
      return null;
    }
  } else {
    const last = toTarget(context(spec, [], true));
    if (last === null || failed) return null;
    if (last.apply !== IDENTITY) steps.push(last);
  }
  return steps;
}

/** What on_error puts in the place of a value: a cell, or null for fail and reject. */
export function replacementOf(
  spec: ColumnObject,
  column: Column,
  problem: Problem,
): { readonly cell: Cell } | null {
  const option = spec.on_error;
  if (option === undefined || option === 'fail' || option === 'reject') return null;
  const value = option === null || option === 'null' ? null : option.value;
  return constantFor(value, column, (message) => problem(['on_error'], message));
}

function evaluator(program: {
  readonly start: Start;
  readonly steps: readonly Step[];
  readonly fallback: Cell;
  readonly required: boolean;
  readonly replacement: { readonly cell: Cell } | null;
}): (tuple: Tuple) => Cell {
  const { start, fallback, required, replacement } = program;
  const { head } = start;
  const index = start.inputs[0] as number;
  const run = chain(program.steps.map((step) => step.apply).filter((apply) => apply !== IDENTITY));
  const value = (tuple: Tuple): Cell => {
    let text = head === null ? textOf(tuple[index] as Cell) : head(tuple);
    if (text !== null) text = run(text);
    if (text !== null) return text;
    if (required && fallback === null) throw new BadValue('is null');
    return fallback;
  };
  if (replacement === null) return value;
  return (tuple) => {
    try {
      return value(tuple);
    } catch (error) {
      if (error instanceof BadValue && error.policy === null) return replacement.cell;
      throw error;
    }
  };
}

/** A part of a split that was changed by nothing else: with its sibling it gives the text back. */
function splitPartOf(spec: ColumnObject, start: Start, steps: readonly Step[]): ColumnProgram['splitPart'] {
  const { by, take, empty, on_error: onError } = spec;
  const only =
    steps.filter((step) => step.apply !== IDENTITY && !isCheck(step)).length === 1 &&
    operationNames(spec)[0] === 'split';
  const replaced = onError !== undefined && onError !== 'fail' && onError !== 'reject';
  if (!only || by === undefined || empty !== undefined || spec.default !== undefined || replaced) return null;
  if (start.shape.derived || (take !== 'first' && take !== 'rest')) return null;
  return { by, take };
}

/** It refuses a text or leaves it as it is: a length, a label. */
const isCheck = ({ inverse, output }: Step): boolean =>
  output.kind === 'text' && 'apply' in inverse && inverse.apply === IDENTITY;

function describe(
  start: Start,
  steps: readonly Step[],
  names: readonly string[],
  column: Column,
  spec: ColumnObject,
): string {
  const words = [start.text, ...steps.map((step) => step.text)].filter((word) => word !== '');
  if (spec.default !== undefined) words.push('default');
  if (words.length > 0) return words.join(', ');
  return names[0] === column.name ? 'copy' : 'rename';
}
