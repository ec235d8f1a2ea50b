import type { TargetTable } from '../core/plan.ts';
import { UNCHANGED, type Cell, type Column, type Relation, type Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { canonicalOf } from './canonical.ts';
import type { ColumnProgram } from './column.ts';
import type { BackDraft, PlacedWay } from './reverse-draft.ts';
import { rowProblem, RowProblem } from './target-program.ts';
import type { Way } from './way-back.ts';

/** A column of green that must come out again. */
interface Check {
  readonly program: ColumnProgram;
  readonly read: number;
  readonly same: (left: Cell, right: Cell) => boolean;
}

interface Asked {
  readonly name: string;
  readonly inputs: readonly number[];
  readonly test: (tuple: Tuple) => boolean;
  /** Every input comes from this table: it can be asked again when a row is changed. */
  readonly always: boolean;
}

/** Rows of one green table as rows of one blue table (or elements of its array). What becomes of them is the plan's. */
export class BackTarget {
  readonly table: TargetTable;
  readonly relation: Relation;
  readonly role: BackDraft['role'];
  readonly ways: readonly PlacedWay[];
  /** Columns of green that it reads. */
  readonly inputs: readonly number[];
  /** Columns of green that the key is made of. */
  readonly keyInputs: readonly number[];
  /** Columns of green that say whether there is a row; empty: there always is. */
  readonly presenceInputs: readonly number[];
  readonly conditional: boolean;
  /** Elements of its arrays come by themselves. */
  readonly hasArrays: boolean;
  /** A condition is asked again when one of several of its columns is changed. */
  readonly asksAgain: boolean;
  /** Columns of a whole row; undefined when that is every column that is written at all. */
  readonly columns: readonly number[] | undefined;
  readonly #draft: BackDraft;
  readonly #key: readonly PlacedWay[];
  readonly #blank: readonly Cell[];
  readonly #byBlue: ReadonlyMap<number, Way>;
  readonly #checks: ReadonlyMap<Way, readonly Check[]>;
  readonly #asked: readonly Asked[];
  /** Without the key. */
  readonly #payload: readonly PlacedWay[];
  /** Something is asked of rows after they are made. */
  readonly #looksAgain: boolean;
  /** Blue as a source, for an insert and for an update, before anything comes from green. */
  readonly #unknown: readonly Cell[];
  readonly #unseen: readonly Cell[];

  constructor(draft: BackDraft, table: TargetTable) {
    const { relation } = draft;
    this.#draft = draft;
    this.table = table;
    this.relation = relation;
    this.role = draft.role;
    this.ways = draft.ways;
    this.#key = relation.key.flatMap((to) => draft.ways.find((one) => one.to === to) ?? []);
    this.#blank = relation.columns.map(() => UNCHANGED);
    this.#byBlue = new Map(draft.ways.map(({ way }) => [way.blue, way]));
    this.#checks = new Map(
      draft.ways.map(({ way }) => [way, way.checks.map((program) => checkOf(draft, program))]),
    );
    this.keyInputs = unique(this.#key.flatMap((one) => one.way.inputs));
    this.presenceInputs = draft.presence?.inputs ?? [];
    this.inputs = unique([...draft.ways.flatMap((one) => one.way.inputs), ...this.presenceInputs]);
    this.hasArrays = draft.ways.some(({ way }) => way.array === true);
    this.conditional = draft.presence !== null || draft.conditions.length > 0;
    this.#unknown = this.#blueOnInsert();
    this.#unseen = this.#unknown.map(() => UNCHANGED);
    this.#payload = draft.ways.filter((one) => !relation.key.includes(one.to));
    this.#asked = draft.conditions.flatMap(({ name, condition }): Asked[] => {
      const known = (index: number): boolean => this.#byBlue.has(index);
      const askable = (index: number): boolean => known(index) || this.#unknown[index] === null;
      if (!condition.inputs.every(askable)) return [];
      const { inputs } = condition;
      return [{ name, inputs, test: (row) => condition.test(row), always: inputs.every(known) }];
    });
    this.#looksAgain = this.#asked.length > 0 || draft.ways.some(({ way }) => way.checks.length > 0);
    this.asksAgain = this.#asked.some(({ always, inputs }) => always && inputs.length > 0);
    const written = relation.columns.flatMap((column, index) => (column.generated ? [] : [index]));
    const fed = unique(draft.ways.map((one) => one.to));
    this.columns = draft.role !== 'part' && fed.length === written.length ? undefined : fed;
  }

  /** Null where an insert that leaves the column out makes it null. */
  #blueOnInsert(): Cell[] {
    const { feed } = this.#draft;
    const row: Cell[] = feed.blue.columns.map((column) => {
      const written = this.relation.columns.find((one) => one.name === column.name);
      return written?.nullable === true && !written.hasDefault && !written.generated ? null : UNCHANGED;
    });
    row.push(UNCHANGED);
    return row;
  }

  /** Whether a row of green stands for one of these. Needs `presenceInputs`. */
  present(tuple: Tuple): boolean {
    return this.#draft.presence?.test(tuple) ?? true;
  }

  /** Refuses a row whose columns contradict one another about whether it is there. @throws RowProblem */
  agree(tuple: Tuple): void {
    const column = this.#draft.presence?.contradiction(tuple) ?? null;
    if (column === null) return;
    const reason = 'does not agree with the other columns about whether blue has a row for it';
    throw new RowProblem('value', column, reason, 'reject');
  }

  /** Every column. @throws RowProblem */
  whole(tuple: Tuple): Cell[] {
    const row = this.#blank.slice();
    const back = this.#looksAgain ? this.#unknown.slice() : null;
    for (const { to, way } of this.ways) {
      const cell = (row[to] = evaluate(way, tuple));
      if (back !== null && way.blue >= 0) back[way.blue] = cell;
    }
    if (back === null) return row;
    for (const asked of this.#asked) this.#ask(asked, back);
    for (const { way } of this.ways) this.#check(way, back, tuple);
    return row;
  }

  /**
   * The columns one of whose inputs changed, and the key; null when that is the key only. @throws RowProblem
   * @param old as far as it is known
   * @param changed per column of green
   */
  changed(tuple: Tuple, old: Tuple, changed: readonly boolean[]): Cell[] | null {
    const touches = (way: Way): boolean => isTouched(way, { tuple, old, changed });
    let row: Cell[] | null = null;
    let back: Cell[] | null = null;
    for (const { to, way } of this.#payload) {
      if (!touches(way)) continue;
      row ??= this.key(tuple);
      const cell = (row[to] = evaluate(way, tuple));
      if (!this.#looksAgain || way.blue < 0) continue;
      back ??= this.#unseen.slice();
      back[way.blue] = cell;
    }
    if (row === null || back === null) return row;
    for (const asked of this.#asked) {
      if (!asked.always || asked.inputs.every((index) => back[index] === UNCHANGED)) continue;
      for (const index of asked.inputs) {
        if (back[index] === UNCHANGED) back[index] = evaluate(this.#byBlue.get(index) as Way, tuple);
      }
      this.#ask(asked, back);
    }
    for (const { way } of this.#payload) if (touches(way)) this.#check(way, back, tuple);
    return row;
  }

  #ask({ name, test }: Asked, back: Tuple): void {
    let fits: boolean;
    try {
      fits = test(back);
    } catch (error) {
      throw rowProblem(error, name, 'reject');
    }
    if (!fits) {
      const reason = 'would not take this row on the way there, so blue has no place for it';
      throw new RowProblem('value', name, reason, 'reject');
    }
  }

  /** What was made, mapped once more, must be what green has. */
  #check(way: Way, back: Tuple, tuple: Tuple): void {
    if (way.checks.length === 0) return;
    for (const { program, read, same } of this.#checks.get(way) ?? []) {
      let again: Cell;
      try {
        again = program.evaluate(back);
      } catch (error) {
        if (!(error instanceof BadValue)) throw error;
        throw new RowProblem('value', way.name, `made from ${program.name}: ${error.reason}`, way.policy);
      }
      if (!same(again, tuple[read] as Cell)) {
        const reason = `cannot hold what ${program.name} has: it would be another value on the way there`;
        throw new RowProblem('value', way.name, reason, way.policy);
      }
    }
  }

  /** Only the key. @throws RowProblem */
  key(tuple: Tuple): Cell[] {
    const row = this.#blank.slice();
    let back: Cell[] | null = null;
    for (const { to, way } of this.#key) {
      const cell = (row[to] = evaluate(way, tuple));
      if (way.checks.length === 0) continue;
      back ??= this.#unseen.slice();
      back[way.blue] = cell;
      this.#check(way, back, tuple);
    }
    return row;
  }

  /** What addresses a row: its key, or the whole row where there is no key. @throws RowProblem */
  old(tuple: Tuple): Cell[] {
    if (this.relation.key.length > 0) return this.key(tuple);
    const row = this.#blank.slice();
    for (const { to, way } of this.ways) row[to] = evaluate(way, tuple);
    return row;
  }

  /** Whether two images have the same key. @throws RowProblem */
  sameKey(before: Tuple, after: Tuple): boolean {
    if (this.keyInputs.every((index) => before[index] === after[index])) return true;
    const old = this.key(before);
    const now = this.key(after);
    return this.relation.key.every((index) => old[index] === now[index]);
  }

  /** The columns of a part as they are while its row is not there. @throws RowProblem */
  gone(tuple: Tuple): Cell[] {
    const row = this.key(tuple);
    for (const [to, cell] of this.#draft.off) row[to] = cell;
    return row;
  }
}

const unique = (indexes: readonly number[]): number[] => [...new Set(indexes)].sort((a, b) => a - b);

function isTouched(
  { inputs, touched }: Way,
  {
    tuple,
    old,
    changed,
  }: { readonly tuple: Tuple; readonly old: Tuple; readonly changed: readonly boolean[] },
): boolean {
  for (const input of inputs) {
    if (changed[input] !== true) continue;
    if (touched === undefined || old[input] === UNCHANGED) return true;
    if (touched(old[input] as Cell, tuple[input] as Cell)) return true;
  }
  return false;
}

function checkOf({ feed }: BackDraft, program: ColumnProgram): Check {
  const read = feed.read[program.document?.reads ?? program.column] as number;
  const canonical =
    program.document?.again ??
    canonicalOf(feed.green.columns[read] as Column) ??
    ((cell: Cell): Cell => cell);
  return { program, read, same: (left, right) => left === right || canonical(left) === canonical(right) };
}

function evaluate(way: Way, tuple: Tuple): Cell {
  for (const index of way.inputs) {
    if (tuple[index] === UNCHANGED)
      throw new RowProblem('incomplete', way.name, 'the log did not bring every cell it needs', 'reject');
  }
  try {
    return way.evaluate(tuple);
  } catch (error) {
    throw rowProblem(error, way.name, way.policy);
  }
}
