import type { TargetTable } from '../core/plan.ts';
import { UNCHANGED, type Cell, type Relation, type Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import type { ColumnProgram } from './column.ts';
import type { Condition } from './condition.ts';
import { explodeJson, type Elements } from './json-parts.ts';
import { NotJson } from './json-text.ts';
import { textOf } from './operations/operation.ts';

/** How rows of one blue table get into one green table. */
export type Role = 'whole' | 'owner' | 'part' | 'explode';

/** The array of an explode. */
export interface ExplodeProgram {
  /** Blue column with the array. */
  readonly array: number;
  readonly name: string;
  /** Green column with the number of the element. */
  readonly ordinal: number;
  readonly policy: 'fail' | 'reject';
  /** The elements, where they are not those of a JSON array; each goes into the place behind the row's last column. @throws BadValue */
  readonly elements?: (array: Cell) => readonly Cell[];
}

/** Why a row is not taken, with the column. Thrown inside the transform only. */
export class RowProblem {
  readonly kind: 'value' | 'incomplete';
  readonly column: string;
  readonly reason: string;
  readonly policy: 'fail' | 'reject';

  constructor(kind: 'value' | 'incomplete', column: string, reason: string, policy: 'fail' | 'reject') {
    this.kind = kind;
    this.column = column;
    this.reason = reason;
    this.policy = policy;
  }
}

/** A BadValue as a problem of a column; anything else is thrown on. */
export function rowProblem(error: unknown, column: string, policy: 'fail' | 'reject'): RowProblem {
  if (error instanceof BadValue) return new RowProblem('value', column, error.reason, error.policy ?? policy);
  throw error;
}

const incomplete = (column: string): RowProblem =>
  new RowProblem('incomplete', column, 'the log did not bring every cell it needs', 'reject');

export interface TargetOptions {
  readonly table: TargetTable;
  readonly role: Role;
  readonly programs: readonly ColumnProgram[];
  readonly emitWhen: Condition | null;
  readonly explode: ExplodeProgram | null;
  /** Number of columns of the blue relation. */
  readonly width: number;
}

/** The compiled columns of one green table. Rows in, rows out; what becomes of them is the table plan's. */
export class TargetProgram {
  readonly table: TargetTable;
  readonly relation: Relation;
  readonly role: Role;
  readonly emitWhen: Condition | null;
  readonly explode: ExplodeProgram | null;
  readonly programs: readonly ColumnProgram[];
  /** Blue columns that the key is made of. */
  readonly keyInputs: readonly number[];
  /** Every blue column it reads; without the element of an explode. */
  readonly inputs: readonly number[];
  /** Columns of a whole row; undefined when that is every column that is written at all. */
  readonly columns: readonly number[] | undefined;
  /** A whole row of a merge part for a row that is not there: key cells are missing. */
  readonly #absent: readonly Cell[];
  readonly #constants: readonly Cell[];
  readonly #blank: readonly Cell[];
  readonly #copies: readonly ColumnProgram[];
  readonly #copyTo: Int32Array;
  readonly #copyFrom: Int32Array;
  readonly #computed: readonly ColumnProgram[];
  readonly #keyPrograms: readonly ColumnProgram[];
  /** Something but key and constants is written. */
  readonly #payload: boolean;
  readonly #width: number;
  /** The row with an element behind it: one for all rows, an evaluation keeps nothing of it. */
  readonly #scratch: Cell[];

  constructor(options: TargetOptions) {
    const { table, programs } = options;
    const { relation } = table;
    this.table = table;
    this.relation = relation;
    this.role = options.role;
    this.emitWhen = options.emitWhen;
    this.explode = options.explode;
    this.programs = programs;
    this.#width = options.width;
    this.#scratch = options.explode === null ? [] : new Array<Cell>(options.width + 1).fill(null);
    this.#copies = programs.filter((program) => program.copy !== null);
    this.#copyTo = Int32Array.from(this.#copies, (program) => program.column);
    this.#copyFrom = Int32Array.from(this.#copies, (program) => program.copy as number);
    this.#computed = programs.filter((program) => program.copy === null && program.constant === null);
    const ordinal = options.explode?.ordinal ?? -1;
    const key = relation.key.filter((index) => index !== ordinal);
    this.#keyPrograms = key.map(
      (index) => programs.find((program) => program.column === index) as ColumnProgram,
    );
    this.keyInputs = unique(this.#keyPrograms.flatMap((program) => program.inputs));
    const array = options.explode === null ? [] : [options.explode.array];
    this.inputs = unique([...programs.flatMap((program) => program.inputs), ...array]).filter(
      (index) => index < this.#width,
    );
    this.#blank = relation.columns.map(() => UNCHANGED);
    const constants: Cell[] = [...this.#blank];
    const absent: Cell[] = [...this.#blank];
    for (const program of programs) {
      if (program.constant !== null) constants[program.column] = program.constant.cell;
      if (!relation.key.includes(program.column)) absent[program.column] = program.absent;
    }
    this.#constants = constants;
    this.#absent = absent;
    this.#payload = programs.some(
      (program) => program.constant === null && !relation.key.includes(program.column),
    );
    const written = relation.columns.flatMap((column, index) => (column.generated ? [] : [index]));
    const fed = programs.map((program) => program.column);
    if (ordinal >= 0) fed.push(ordinal);
    fed.sort((a, b) => a - b);
    this.columns = fed.length === written.length ? undefined : fed;
  }

  /** Every column. `gaps`: some cell of the row may be UNCHANGED. @throws RowProblem */
  whole(tuple: Tuple, gaps: boolean): Cell[] {
    const row = this.#constants.slice();
    const to = this.#copyTo;
    const from = this.#copyFrom;
    for (let i = 0; i < to.length; i++) row[to[i] as number] = tuple[from[i] as number] as Cell;
    if (gaps) this.#requireInputs(tuple);
    for (const program of this.#computed) row[program.column] = evaluate(program, tuple);
    return row;
  }

  #requireInputs(tuple: Tuple): void {
    for (const program of this.programs) {
      for (const index of program.inputs) if (tuple[index] === UNCHANGED) throw incomplete(program.name);
    }
  }

  /**
   * What an update writes: key and what may have changed; cells whose inputs are all UNCHANGED and constants stay UNCHANGED. Null when
   * nothing is written. @throws RowProblem
   * @param after the new row as it came
   * @param view the same with cells filled in from the old image where it is known
   */
  changed(after: Tuple, view: Tuple, gaps: boolean): Cell[] | null {
    if (!this.#payload) return null;
    const row = this.#blank.slice();
    const to = this.#copyTo;
    const from = this.#copyFrom;
    for (let i = 0; i < to.length; i++) row[to[i] as number] = after[from[i] as number] as Cell;
    let written = !gaps;
    for (const program of this.#computed) {
      if (gaps && program.inputs.every((index) => after[index] === UNCHANGED)) continue;
      if (gaps)
        for (const index of program.inputs) if (view[index] === UNCHANGED) throw incomplete(program.name);
      row[program.column] = evaluate(program, view);
    }
    if (gaps) {
      const { key } = this.relation;
      written = row.some((cell, index) => cell !== UNCHANGED && !key.includes(index));
    }
    if (!written) return null;
    this.#setKey(row, view);
    return row;
  }

  /** Only the key (of an explode: the prefix). @throws RowProblem */
  key(tuple: Tuple): Cell[] {
    const row = this.#blank.slice();
    this.#setKey(row, tuple);
    return row;
  }

  #setKey(row: Cell[], tuple: Tuple): void {
    for (const program of this.#keyPrograms) {
      for (const index of program.inputs) if (tuple[index] === UNCHANGED) throw incomplete(program.name);
      row[program.column] = evaluate(program, tuple);
    }
  }

  /** What addresses a row that was there: its key, or the whole row where there is no key. @throws RowProblem */
  old(tuple: Tuple): Cell[] {
    return this.relation.key.length > 0 ? this.key(tuple) : this.whole(tuple, true);
  }

  /** Whether two images have the same key. @throws RowProblem */
  sameKey(before: Tuple, after: Tuple): boolean {
    if (this.keyInputs.every((index) => before[index] === after[index])) return true;
    const old = this.key(before);
    const now = this.key(after);
    return this.relation.key.every((index) => old[index] === now[index]);
  }

  /** The columns of a merge part as they are while its row does not exist. @throws RowProblem */
  gone(tuple: Tuple): Cell[] {
    const row = this.#absent.slice();
    this.#setKey(row, tuple);
    return row;
  }

  /** The rows of an exploded array. @throws RowProblem */
  children(tuple: Tuple, gaps: boolean): Cell[][] {
    const { array, name, ordinal, policy, elements: own } = this.explode as ExplodeProgram;
    if (gaps) for (const index of this.inputs) if (tuple[index] === UNCHANGED) throw incomplete(name);
    const elements = (own === undefined ? elementsOf : taken(own))(tuple[array] as Cell, name, policy);
    const rows = new Array<Cell[]>(elements.length);
    const scratch = this.#scratch;
    for (let index = 0; index < this.#width; index++) scratch[index] = tuple[index] as Cell;
    for (let index = 0; index < elements.length; index++) {
      scratch[this.#width] = elements.at(index) as Cell;
      const row = this.whole(scratch, false);
      row[ordinal] = String(index + 1);
      rows[index] = row;
    }
    return rows;
  }
}

function evaluate(program: ColumnProgram, tuple: Tuple): Cell {
  try {
    return program.evaluate(tuple);
  } catch (error) {
    throw rowProblem(error, program.name, program.policy);
  }
}

function elementsOf(cell: Cell, name: string, policy: 'fail' | 'reject'): Elements | readonly string[] {
  const refuse = (reason: string): RowProblem => new RowProblem('value', name, reason, policy);
  let elements: Elements | readonly string[] | null;
  try {
    const text = textOf(cell);
    elements = text === null || text === 'null' ? [] : explodeJson(text);
  } catch (error) {
    if (error instanceof NotJson || error instanceof BadValue) throw refuse('is not JSON');
    throw error;
  }
  if (elements === null) throw refuse('is not an array');
  return elements;
}

function taken(
  elements: (array: Cell) => readonly Cell[],
): (cell: Cell, name: string, policy: 'fail' | 'reject') => readonly Cell[] {
  return (cell, name, policy) => {
    try {
      return elements(cell);
    } catch (error) {
      throw rowProblem(error, name, policy);
    }
  };
}

const unique = (indexes: readonly number[]): number[] => [...new Set(indexes)].sort((a, b) => a - b);
