import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import {
  keyText,
  tableId,
  UNCHANGED,
  type Cell,
  type Relation,
  type Tuple,
} from '../../../src/core/table.ts';
import { compile } from './tables.ts';
import { blue, mapping, shop } from './shop.ts';

/** A sink of the strictest kind: an insert finds nothing, an update or delete hits one row. */
class StrictGreen {
  readonly tables = new Map<string, Map<string, Cell[]>>();
  /** Parts of merged rows, also those whose owner is not there yet. */
  readonly parts = new Map<string, Map<string, Cell[]>>();

  apply(run: RowRun): void {
    const { relation } = run;
    const rows = this.#of(this.tables, relation);
    const key = (row: Tuple): string => keyText(relation, row);
    switch (run.op) {
      case 'insert':
        for (const row of run.after) {
          if (rows.has(key(row))) throw new Error(`insert finds ${key(row)} in ${relation.table.name}`);
          rows.set(key(row), [...row]);
        }
        return;
      case 'update':
        for (const [i, row] of run.after.entries()) {
          const at = key(run.before[i] ?? row);
          const old = rows.get(at);
          if (old === undefined) throw new Error(`update misses ${at} in ${relation.table.name}`);
          rows.delete(at);
          if (rows.has(key(row))) throw new Error(`update meets ${key(row)} in ${relation.table.name}`);
          rows.set(
            key(row),
            row.map((cell, column) => (cell === UNCHANGED ? (old[column] as Cell) : cell)),
          );
        }
        return;
      case 'delete':
        for (const row of run.before)
          if (!rows.delete(key(row as Tuple))) throw new Error(`delete misses in ${relation.table.name}`);
        return;
      case 'put': {
        const parts = this.#of(this.parts, relation);
        for (const row of run.after) {
          const old = parts.get(key(row)) ?? relation.columns.map(() => UNCHANGED);
          parts.set(
            key(row),
            row.map((cell, column) => (cell === UNCHANGED ? (old[column] as Cell) : cell)),
          );
        }
        return;
      }
      case 'replace': {
        const prefix = (row: Tuple): string => String(row[relation.key[0] as number]);
        const parents = new Set(run.before.map((row) => prefix(row as Tuple)));
        if (parents.size !== run.before.length) throw new Error('a parent is twice in one run');
        for (const [at, row] of rows) if (parents.has(prefix(row))) rows.delete(at);
        for (const row of run.after) rows.set(key(row), [...row]);
        return;
      }
      case 'truncate':
        rows.clear();
        return;
    }
  }

  /** What a reader sees: owners with the parts on them. */
  content(absent: ReadonlyMap<string, Tuple>): Record<string, Record<string, Tuple>> {
    const all: Record<string, Record<string, Tuple>> = {};
    for (const [id, rows] of [...this.tables].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const shown: Record<string, Tuple> = {};
      for (const [key, row] of [...rows].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const part = this.parts.get(id)?.get(key) ?? absent.get(id);
        shown[key] = row
          .map((cell, column) => (cell === UNCHANGED ? (part?.[column] ?? UNCHANGED) : cell))
          .map((cell) => (cell === UNCHANGED ? '(default)' : cell));
      }
      if (rows.size > 0) all[id] = shown;
    }
    return all;
  }

  #of(map: Map<string, Map<string, Cell[]>>, relation: Relation): Map<string, Cell[]> {
    const id = tableId(relation.table);
    const found = map.get(id) ?? new Map<string, Cell[]>();
    map.set(id, found);
    return found;
  }
}

const compiled = compile(mapping, shop);
const absent = new Map(
  compiled.targets.flatMap((target) => {
    if (target.merge === null) return [];
    const row: Cell[] = target.relation.columns.map(() => UNCHANGED);
    for (const part of target.merge.parts)
      for (const [i, column] of part.columns.entries()) row[column] = part.absent[i] as Cell;
    return [[tableId(target.relation.table), row] as const];
  }),
);

const planOf = (relation: Relation) =>
  compiled.plans.find(
    (plan) => tableId(plan.from.table) === tableId(relation.table),
  ) as (typeof compiled.plans)[number];

const key = fc.integer({ min: 1, max: 5 }).map(String);
const items = fc
  .array(fc.record({ sku: fc.constantFrom('a', 'b', 'ü"'), quantity: fc.integer({ min: 0, max: 9 }) }), {
    maxLength: 3,
  })
  .map((list) => JSON.stringify(list));
const rowOf: Record<string, fc.Arbitrary<Cell[]>> = {
  customers: fc
    .tuple(
      key,
      fc.constantFrom('A', 'A B', 'A B C', ' A', 'A '),
      fc.constantFrom(null, ' X@Y '),
      fc.constantFrom('0.10', '12.34', '-1.00'),
      fc.constantFrom('0', '1', '7'),
      fc.constantFrom(null, 'Ulm'),
      fc.constant(null),
      fc.constantFrom('2024-01-01 00:00:00', '2024-07-01 00:00:00.5', '2024-03-31 03:00:00'),
    )
    .map((row) => [...row]),
  products: fc
    .tuple(key, fc.constantFrom('Cup', 'Jar'), fc.constantFrom('1.00', '2.50'))
    .map((row) => [...row]),
  stock: fc.tuple(key, fc.constantFrom('0', '3'), fc.constantFrom(null, 'A')).map((row) => [...row]),
  orders: fc.tuple(key, key, items, fc.constantFrom(null, 'n', 'm')).map((row) => [...row]),
};

interface Step {
  readonly relation: Relation;
  readonly kind: 'insert' | 'update' | 'delete';
  readonly row: Cell[];
  /** Key of the row that is changed. */
  readonly at: string;
  readonly hideUnchanged: boolean;
}

const step: fc.Arbitrary<Step> = fc.constantFrom(...Object.values(blue)).chain((relation) =>
  fc.record({
    relation: fc.constant(relation),
    kind: fc.constantFrom('insert', 'update', 'update', 'delete'),
    row: rowOf[relation.table.name] as fc.Arbitrary<Cell[]>,
    at: key,
    hideUnchanged: fc.boolean(),
  }),
);

/** Blue, the log it writes, and what a pipeline that keeps holes makes of it. */
class Blue {
  readonly rows = new Map(
    Object.values(blue).map((relation) => [relation, new Map<string, Cell[]>()] as const),
  );
  readonly holes = new Map(Object.values(blue).map((relation) => [relation, new Set<string>()] as const));
  readonly green = new StrictGreen();

  change({ relation, kind, row, at, hideUnchanged }: Step): void {
    const rows = this.rows.get(relation) as Map<string, Cell[]>;
    const old = rows.get(at);
    if (kind === 'insert') {
      if (rows.has(row[0] as string)) return;
      rows.set(row[0] as string, row);
      this.#log({ relation, op: 'insert', after: [row], before: [null] });
      return;
    }
    if (old === undefined) return;
    const full = relation.identity === 'full';
    const keyOnly = old.map((cell, i) => (relation.key.includes(i) ? cell : UNCHANGED));
    if (kind === 'delete') {
      rows.delete(at);
      this.#log({ relation, op: 'delete', after: [], before: [full ? old : keyOnly] });
      return;
    }
    const to = row[0] as string;
    if (to !== at && rows.has(to)) return;
    rows.delete(at);
    rows.set(to, row);
    // What did not change may be left out where the log brings the old row, or where the key stays.
    const hidden = hideUnchanged && (full || to === at);
    const sent = row.map((cell, i) =>
      hidden && relation.columns[i]?.mayBeUnchanged === true && cell === old[i] ? UNCHANGED : cell,
    );
    this.#log({ relation, op: 'update', after: [sent], before: [full ? old : to === at ? null : keyOnly] });
  }

  /** Rows that nothing refuses travel together, as they do in a log: one row may be there several times. */
  #waiting: RowRun | null = null;

  flush(): void {
    const run = this.#waiting;
    this.#waiting = null;
    if (run !== null) for (const one of planOf(run.relation).run(run).runs) this.green.apply(one);
  }

  #log(run: RowRun): void {
    const { relation } = run;
    if (relation === blue.orders) {
      const before = this.#waiting;
      if (before !== null && before.op === run.op) {
        this.#waiting = {
          ...run,
          after: [...before.after, ...run.after],
          before: [...before.before, ...run.before],
        };
      } else {
        this.flush();
        this.#waiting = run;
      }
      return;
    }
    const holes = this.holes.get(relation) as Set<string>;
    const was = (run.before[0] ?? run.after[0])?.[0] as string;
    let change = run;
    if (run.op !== 'insert' && holes.delete(was)) {
      const now = this.rows.get(relation)?.get((run.after[0]?.[0] ?? '') as string);
      if (run.op === 'delete' || now === undefined) return;
      change = { relation, op: 'insert', after: [now], before: [null] };
    }
    const output = planOf(relation).run(change);
    for (const _ of output.rejects) holes.add(change.after[0]?.[0] as string);
    for (const one of output.runs) this.green.apply(one);
  }

  /** Green made anew from what blue holds now. */
  expected(): StrictGreen {
    const fresh = new StrictGreen();
    for (const [relation, rows] of this.rows) {
      const after = [...rows.values()];
      for (const run of planOf(relation).run({ relation, op: 'insert', after, before: after.map(() => null) })
        .runs)
        fresh.apply(run);
    }
    return fresh;
  }
}

test('F53, F54: any history of changes leaves on a strict green what a copy of the last state would', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const side = new Blue();
      for (const one of steps) side.change(one);
      side.flush();
      expect(side.green.content(absent)).toEqual(side.expected().content(absent));
    }),
    { numRuns: 400 },
  );
});

test('the same rows in give the same rows out, however they are cut into runs', () => {
  fc.assert(
    fc.property(
      fc.array(rowOf['customers'] as fc.Arbitrary<Cell[]>, { maxLength: 20 }),
      fc.nat(20),
      (rows, cut) => {
        const plan = planOf(blue.customers);
        const run = (after: Tuple[]) =>
          plan.run({ relation: blue.customers, op: 'insert', after, before: after.map(() => null) });
        const perTable = (outputs: ReturnType<typeof run>[]) =>
          Object.groupBy(
            outputs
              .flatMap((one) => one.runs)
              .flatMap((one) => one.after.map((row) => [one.relation.table.name, row] as const)),
            ([name]) => name,
          );
        expect(perTable([run(rows.slice(0, cut)), run(rows.slice(cut))])).toEqual(perTable([run(rows)]));
        expect(run(rows)).toEqual(run(rows));
      },
    ),
    { numRuns: 100 },
  );
});
