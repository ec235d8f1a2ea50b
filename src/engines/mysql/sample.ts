import type { Relation, Tuple } from '../../core/table.ts';
import { readLayout } from './catalog-layout.ts';
import type { Link } from './connect.ts';
import { accessOf, readRow, selectList } from './snapshot-range.ts';
import { orderBy } from './snapshot.ts';

/** A few rows in relation order. `where` is the operator's own condition: it runs in a read-only transaction. */
export async function sampleRows(
  link: Link,
  relation: Relation,
  { rows, where }: { readonly rows: number; readonly where?: string },
): Promise<readonly Tuple[]> {
  const access = accessOf(relation, await readLayout(link, relation.table));
  await link.run('START TRANSACTION READ ONLY');
  try {
    const found = await link.raw(
      `SELECT ${selectList(access)} FROM ${access.from} ${where === undefined ? '' : `WHERE (${where}\n)`}${orderBy(access)} LIMIT ${Math.trunc(rows)}`,
    );
    return found.map((row) => readRow(access, row));
  } finally {
    await link.run('ROLLBACK');
  }
}
