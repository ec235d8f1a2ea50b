import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import { keyText, showTable, type Relation, type Tuple } from '../core/table.ts';
import { Shapes } from './fold.ts';

interface TableState {
  /** By key: what addresses the row, and what is there in the end; null when nothing is. */
  readonly rows: Map<string, { readonly key: Tuple; image: Tuple | null }>;
  /** Runs that mean the same however often they are applied. */
  readonly others: RowRun[];
}

/**
 * Folds changes that may be in the rows already, any number of them from the front: what stands under each touched key in the end does
 * not depend on where the rows were taken. So every touched key is deleted, a key that a row only passed through included, and
 * the final images are inserted. Unlike {@link import('./fold.ts').Fold} it never lets an insert and a delete cancel out.
 */
export class StateFold {
  readonly #tables = new Map<Relation, TableState>();

  add(run: RowRun): void {
    let table = this.#tables.get(run.relation);
    if (table === undefined) this.#tables.set(run.relation, (table = { rows: new Map(), others: [] }));
    if (run.op === 'put' || run.op === 'replace' || run.op === 'truncate') {
      table.others.push(run);
      return;
    }
    if (run.relation.key.length === 0)
      throw new VerdigrisError(
        'INTERNAL',
        `Changes of ${showTable(run.relation.table)} cannot be applied as state: it has no key.`,
      );
    const length = run.op === 'delete' ? run.before.length : run.after.length;
    for (let index = 0; index < length; index++) {
      const before = run.before[index] ?? null;
      const after = run.op === 'delete' ? null : (run.after[index] as Tuple);
      if (before !== null) table.rows.set(keyText(run.relation, before), { key: before, image: null });
      if (after !== null) table.rows.set(keyText(run.relation, after), { key: after, image: after });
    }
  }

  /** The runs, table by table; empties the fold. */
  take(): RowRun[] {
    const runs: RowRun[] = [];
    for (const [relation, { rows, others }] of this.#tables) {
      const touched = [...rows.values()];
      if (touched.length > 0)
        runs.push({ relation, op: 'delete', after: [], before: touched.map(({ key }) => key) });
      const images = new Shapes(relation, 'insert');
      for (const { image } of touched) if (image !== null) images.add(image, null);
      images.emit(runs);
      runs.push(...others);
    }
    this.#tables.clear();
    return runs;
  }
}
