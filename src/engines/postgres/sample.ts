import type pg from 'pg';
import type { Relation, Tuple } from '../../core/table.ts';
import { ident, qualified } from './sql.ts';

/**
 * A few rows in relation order, as text. `where` is the operator's own condition: it runs in a read-only transaction and through
 * the extended protocol, which takes one statement only.
 */
export async function sampleRows(
  client: pg.Client,
  relation: Relation,
  { rows, where }: { readonly rows: number; readonly where?: string },
): Promise<readonly Tuple[]> {
  const columns = relation.columns.map((column) => ident(column.name)).join(', ');
  const order = relation.key.map((index) => ident(relation.columns[index]?.name ?? '')).join(', ');
  await client.query('BEGIN READ ONLY');
  try {
    const query: pg.QueryArrayConfig & { queryMode: 'extended' } = {
      text: `SELECT ${columns} FROM ${qualified(relation.table)}
        ${where === undefined ? '' : `WHERE (${where}\n)`} ${order === '' ? '' : `ORDER BY ${order}`} LIMIT ${Math.trunc(rows)}`,
      rowMode: 'array',
      queryMode: 'extended',
    };
    const result = await client.query<(string | null)[]>(query);
    return result.rows;
  } finally {
    await client.query('ROLLBACK');
  }
}
