import type { Link } from './connect.ts';

/** One transaction; rolled back when the work fails. */
export async function transact<T>(link: Link, work: () => Promise<T>): Promise<T> {
  await link.run('START TRANSACTION');
  try {
    const result = await work();
    await link.run('COMMIT');
    return result;
  } catch (error) {
    if (!link.lost) await link.run('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
