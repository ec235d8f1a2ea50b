import type { ChangeBatch, ChangeRun, RowRun, SourceTransaction } from '../core/change.ts';
import { UNCHANGED, keyText, tableId, type Cell, type Relation, type Tuple } from '../core/table.ts';
import type { Decision, UnitRanges } from './ranges.ts';
import { Window } from './window.ts';

/**
 * Decides for every change, by the range of its key: todo → drop (a later chunk holds it), open → hold in the window, done → pass.
 * A table whose copy is settled passes whole runs without a look at a key.
 */
export class Router {
  readonly #units: ReadonlyMap<string, UnitRanges>;
  readonly #settled = new Set<UnitRanges>();

  constructor(units: readonly UnitRanges[]) {
    this.#units = new Map(
      units.flatMap((ranges) =>
        ranges.unit.relations.map((relation) => [tableId(relation.table), ranges] as const),
      ),
    );
  }

  unitOf(relation: Relation): UnitRanges | undefined {
    return this.#units.get(tableId(relation.table));
  }

  /** Call when ranges or windows of any unit changed. */
  refresh(from: Parameters<UnitRanges['settled']>[0]): void {
    this.#settled.clear();
    for (const unit of new Set(this.#units.values())) if (unit.settled(from)) this.#settled.add(unit);
  }

  /** Asks the server for the ranges of keys that this program cannot order; call before {@link route}. */
  async prepare(batch: ChangeBatch): Promise<void> {
    const wanted = new Map<Relation, Cell[]>();
    for (const run of batch.runs) {
      const unit = this.unitOf(run.relation);
      if (unit === undefined || !unit.needsPrefetch || run.relation.key.length === 0) continue;
      const first = run.relation.key[0] as number;
      const cells = wanted.get(run.relation) ?? [];
      for (const row of run.after) cells.push(row[first] as Cell);
      for (const row of run.before) if (row !== null) cells.push(row[first] as Cell);
      wanted.set(run.relation, cells);
    }
    for (const unit of new Set([...wanted.keys()].map((relation) => this.unitOf(relation)))) unit?.forget();
    for (const [relation, cells] of wanted) await this.unitOf(relation)?.prefetch(relation, cells);
  }

  /** The changes that go on to the sink, in order. The others were dropped or are held. */
  route(batch: ChangeBatch): RowRun[] {
    const passed: RowRun[] = [];
    const rows = batch.runs.reduce((sum, run) => sum + Math.max(run.after.length, run.before.length, 1), 0);
    const share = rows === 0 ? 0 : Math.ceil(batch.bytes / rows);
    for (const run of batch.runs) {
      const unit = this.unitOf(run.relation);
      if (unit === undefined) continue;
      if (this.#settled.has(unit)) passed.push(run);
      else if (run.op === 'truncate') this.#truncate(unit, run, batch.transactions, passed);
      else this.#split(unit, run, { transactions: batch.transactions, share, passed });
    }
    return passed;
  }

  /** Its windows were cancelled before; ranges that are todo will be read after it. */
  #truncate(
    unit: UnitRanges,
    run: ChangeRun,
    transactions: readonly SourceTransaction[],
    passed: RowRun[],
  ): void {
    const at = (transactions[run.transaction[0] as number] as SourceTransaction).end;
    if (unit.passesTruncate(at)) passed.push(run);
  }

  #split(
    unit: UnitRanges,
    run: ChangeRun,
    {
      transactions,
      share,
      passed,
    }: { transactions: readonly SourceTransaction[]; share: number; passed: RowRun[] },
  ): void {
    const out = new Collector(run, passed);
    const { relation } = run;
    const length = run.op === 'delete' ? run.before.length : run.after.length;
    for (let i = 0; i < length; i++) {
      const transaction = transactions[run.transaction[i] as number] as SourceTransaction;
      const after = run.op === 'delete' ? null : (run.after[i] as Tuple);
      const before = run.before[i] ?? null;
      const decide = (row: Tuple): Decision | 'skip' => this.#decide(unit, relation, row, transaction);
      if (after !== null && before !== null && relation.key.length > 0 && moved(relation, before, after)) {
        const left = decide(before);
        const right = decide(after);
        if (left === right) {
          if (left === 'done') out.pass(i);
          else if (left instanceof Window) left.hold(run, i, transaction.id, share);
          continue;
        }
        // Two halves: what leaves the old key is judged by the old key's range, what arrives by the new key's.
        const leave: RowRun = { relation, op: 'delete', after: [], before: [keyImage(relation, before)] };
        const arrive: RowRun = { relation, op: 'insert', after: [after], before: [null] };
        for (const [decision, half] of [
          [left, leave],
          [right, arrive],
        ] as const) {
          if (decision === 'done') out.other(half);
          else if (decision instanceof Window) decision.hold(half, 0, transaction.id, share);
        }
        continue;
      }
      const decision = decide((after ?? before) as Tuple);
      if (decision === 'done') out.pass(i);
      else if (decision instanceof Window) decision.hold(run, i, transaction.id, share);
    }
    out.finish();
  }

  #decide(
    unit: UnitRanges,
    relation: Relation,
    row: Tuple,
    transaction: SourceTransaction,
  ): Decision | 'skip' {
    if (relation.key.length === 0) return unit.decideWhole(transaction.end);
    const first = row[relation.key[0] as number] as Cell;
    return unit.decide(relation, first, keyText(relation, row), transaction.end);
  }
}

const moved = (relation: Relation, before: Tuple, after: Tuple): boolean =>
  relation.key.some((index) => before[index] !== UNCHANGED && before[index] !== after[index]);

/** Only what addresses the row: an old image may hold more, and a delete must not depend on it being there. */
const keyImage = (relation: Relation, row: Tuple): Tuple =>
  relation.identity === 'full'
    ? row
    : row.map((cell, index) => (relation.key.includes(index) ? cell : UNCHANGED));

/** Rows of a run that pass, as few runs as possible. */
class Collector {
  readonly #run: ChangeRun;
  readonly #passed: RowRun[];
  #indexes: number[] = [];

  constructor(run: ChangeRun, passed: RowRun[]) {
    this.#run = run;
    this.#passed = passed;
  }

  pass(index: number): void {
    this.#indexes.push(index);
  }

  other(run: RowRun): void {
    this.finish();
    this.#passed.push(run);
  }

  finish(): void {
    const { after, before, relation, op } = this.#run;
    const picked = this.#indexes;
    this.#indexes = [];
    if (picked.length === 0) return;
    if (picked.length === Math.max(after.length, before.length)) this.#passed.push(this.#run);
    else {
      this.#passed.push({
        relation,
        op,
        after: op === 'delete' ? [] : picked.map((index) => after[index] as Tuple),
        before: picked.map((index) => before[index] ?? null),
      });
    }
  }
}
