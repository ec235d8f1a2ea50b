import { VerdigrisError } from '../../core/errors.ts';
import type { Visibility } from '../../core/snapshot.ts';
import type { Link } from './connect.ts';
import { MysqlGtidSet } from './position.ts';

/**
 * What a snapshot of MySQL sees, from the executed set that was read before it: everything in the set, and possibly more, because a
 * transaction is in the set only after it has become visible.
 */
export function visibilityOfSet(executed: string, exact: boolean): Visibility {
  const set = MysqlGtidSet.parse(executed);
  return { lowerBound: !exact, sees: (transaction) => set.has(transaction), describe: () => executed };
}

/** What a snapshot of MariaDB sees: everything up to its place in the log, and nothing behind it. */
export function visibilityOfPlace(file: string, offset: number): Visibility {
  return {
    sees: (transaction) => {
      const at = transaction.lastIndexOf(':');
      const other = transaction.slice(0, at);
      if (other === file) return Number(transaction.slice(at + 1)) <= offset;
      return numberOf(other) < numberOf(file);
    },
    describe: () => `${file}:${offset}`,
  };
}

/** Files of the log are numbered: `binlog.000017`. */
function numberOf(file: string): number {
  const match = /\.(\d+)$/.exec(file);
  if (match === null) throw new VerdigrisError('SOURCE_PROTOCOL', 'A file of the binary log has no number.');
  return Number(match[1]);
}

/** Begins a transaction whose snapshot is taken now. A session that is not REPEATABLE READ would be ignored with a warning. */
export async function takeSnapshot(link: Link, exact: boolean): Promise<Visibility> {
  if (link.flavour === 'mysql') {
    const executed = (await link.value('SELECT @@global.gtid_executed')) ?? '';
    await begin(link, 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
    return visibilityOfSet(executed.replaceAll(/\s/g, ''), exact);
  }
  // Read inside: the position of the log itself can be ahead of what is visible.
  await begin(link, 'START TRANSACTION WITH CONSISTENT SNAPSHOT');
  const status = new Map(
    (await link.rows("SHOW STATUS LIKE 'binlog_snapshot_%'")).map(([name, value]) => [
      name?.toLowerCase(),
      value,
    ]),
  );
  const file = status.get('binlog_snapshot_file');
  const offset = Number(status.get('binlog_snapshot_position'));
  if (file === undefined || file === null || file === '' || !Number.isFinite(offset))
    throw new VerdigrisError(
      'SOURCE_FAILED',
      'The source does not tell the place of a snapshot in its log: log_bin is off.',
    );
  return visibilityOfPlace(file, offset);
}

async function begin(link: Link, sql: string): Promise<void> {
  const { warnings } = await link.run(sql);
  if (warnings > 0)
    throw new VerdigrisError('SOURCE_FAILED', 'The source did not take the snapshot that was asked for.');
}
