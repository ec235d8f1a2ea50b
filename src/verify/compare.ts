import { UNCHANGED, type Cell, type Tuple } from '../core/table.ts';
import type { RowSet } from './row-set.ts';
import type { VerifyTable } from './verify-table.ts';

/** One row that is not the same on both sides; `id` is its key text, or its content where it has no key. */
export interface Finding {
  readonly id: string;
  readonly kind: 'missing' | 'extra' | 'different';
  readonly row: Tuple;
  readonly columns: readonly string[];
}

/** Compares what green should hold with what it holds. */
export function compare(table: VerifyTable, expected: RowSet, found: RowSet): Finding[] {
  const findings: Finding[] = [];
  const { relation } = table.target;
  const keyless = relation.key.length === 0;
  const fewer = (id: string, less: RowSet, more: RowSet): boolean =>
    keyless && (less.counts.get(id) ?? 0) < (more.counts.get(id) ?? 0);
  for (const [id, row] of expected.rows) {
    const other = found.rows.get(id);
    if (other === undefined || fewer(id, found, expected)) {
      findings.push({ id, kind: 'missing', row, columns: [] });
      continue;
    }
    const different = table.compared.filter((index) => !same(table, index, row, other));
    if (different.length > 0) {
      findings.push({
        id,
        kind: 'different',
        row: other,
        columns: different.map((index) => relation.columns[index]?.name ?? ''),
      });
    }
  }
  for (const [id, row] of found.rows) {
    if (!expected.rows.has(id) || fewer(id, expected, found))
      findings.push({ id, kind: 'extra', row, columns: [] });
  }
  return findings;
}

function same(table: VerifyTable, index: number, expected: Tuple, found: Tuple): boolean {
  const want = expected[index] as Cell;
  const have = found[index] as Cell;
  if (want === have || want === UNCHANGED) return true;
  if (want instanceof Uint8Array && have instanceof Uint8Array) return Buffer.compare(want, have) === 0;
  const canonical = table.canonical[index];
  return canonical !== null && canonical !== undefined && canonical(want) === canonical(have);
}
