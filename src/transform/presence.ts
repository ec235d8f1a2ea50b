import type { Cell, Column, Tuple } from '../core/table.ts';
import { canonicalOf } from './canonical.ts';
import type { ColumnProgram } from './column.ts';
import type { Feed } from './feed.ts';

/** Whether a row of green stands for a row of the blue table at all. */
export interface Presence {
  /** Columns of green that say so. */
  readonly inputs: readonly number[];
  /** False: a row of blue whose values are all the absent ones cannot be told from none. */
  readonly certain: boolean;
  test(tuple: Tuple): boolean;
  /** A column that says the opposite of what {@link test} says; null when all agree. */
  contradiction(tuple: Tuple): string | null;
}

interface Sign {
  readonly name: string;
  readonly input: number;
  /** Null: cells that are not null; else the cell that must stand there, or (for `absent`) must not. */
  readonly cell: Cell;
  readonly same: (left: Cell, right: Cell) => boolean;
}

/**
 * Constants in green's key say which rows are ours (`kind: primary`; others have no place on blue). A part of a merge is there when a column
 * that its row always fills differs from `absent`; where no column is such a sign, when any column differs. Null: every row is one.
 */
export function presenceOf(feed: Feed): Presence | null {
  const { target, green, read } = feed;
  const sign = (program: ColumnProgram, cell: Cell): Sign => {
    const input = read[program.column] as number;
    const canonical = canonicalOf(green.columns[input] as Column) ?? ((one: Cell) => one);
    return {
      name: program.name,
      input,
      cell,
      same: (left, right) => left === right || canonical(left) === canonical(right),
    };
  };
  const readable = target.programs.filter((program) => (read[program.column] as number) >= 0);
  const inKey = (program: ColumnProgram): boolean => target.relation.key.includes(program.column);
  const kinds = readable.flatMap((program) =>
    inKey(program) && program.constant !== null ? [sign(program, program.constant.cell)] : [],
  );
  const payload = target.role === 'part' ? readable.filter((program) => !inKey(program)) : [];
  const absent = payload.map((program) => sign(program, program.absent));
  const proofs = absent.filter(({ cell, same }, index) => {
    const { constant, nullable } = payload[index] as ColumnProgram;
    return constant === null ? cell === null && !nullable : !same(constant.cell, cell);
  });
  if (kinds.length === 0 && absent.length === 0) return null;
  const certain = absent.length === 0 || proofs.length > 0;
  const signs = proofs.length > 0 ? proofs : absent;
  const differs = ({ input, cell, same }: Sign, tuple: Tuple): boolean => !same(tuple[input] as Cell, cell);
  const test = (tuple: Tuple): boolean =>
    kinds.every((one) => !differs(one, tuple)) &&
    (absent.length === 0 || signs.some((one) => differs(one, tuple)));
  return {
    inputs: [...new Set([...kinds, ...absent].map((one) => one.input))],
    certain,
    test,
    contradiction(tuple) {
      if (kinds.some((one) => differs(one, tuple)) || absent.length === 0) return null;
      const wrong = test(tuple)
        ? proofs.find((one) => !differs(one, tuple))
        : absent.find((one) => differs(one, tuple));
      return wrong?.name ?? null;
    },
  };
}
