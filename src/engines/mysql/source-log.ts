import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { SourceHealth } from '../../core/source.ts';
import type { Link } from './connect.ts';
import { MysqlGtidSet, parseGtids } from './position.ts';
import { literal } from './sql.ts';

/** The end of the log. */
export async function executedGtids(link: Link): Promise<string> {
  const name = link.flavour === 'mysql' ? 'gtid_executed' : 'gtid_binlog_pos';
  return (await link.value(`SELECT @@global.${name}`)) ?? '';
}

/** What the log no longer has: on MariaDB, where its oldest file begins. */
export async function purgedGtids(link: Link): Promise<string> {
  if (link.flavour === 'mysql') return (await link.value('SELECT @@global.gtid_purged')) ?? '';
  const first = (await link.rows('SHOW BINARY LOGS'))[0]?.[0];
  if (first === undefined || first === null) return '';
  return (await link.value(`SELECT BINLOG_GTID_POS(${literal(first)}, 4)`)) ?? '';
}

/** Settings without which the log does not say enough, and what they must be. */
export function neededSettings(link: Link): Readonly<Record<string, string>> {
  return {
    log_bin: '1',
    binlog_format: 'ROW',
    binlog_row_image: 'FULL',
    binlog_row_metadata: 'FULL',
    ...(link.flavour === 'mysql'
      ? { gtid_mode: 'ON', binlog_row_value_options: '', binlog_transaction_compression: '0' }
      : { log_bin_compress: '0' }),
  };
}

/** @throws VerdigrisError SOURCE_FAILED, SOURCE_POSITION_LOST, SOURCE_TIMELINE */
export async function checkLog(link: Link, checkpoint: Position | null): Promise<void> {
  const needed = Object.entries(neededSettings(link));
  const row = (await link.rows(`SELECT ${needed.map(([name]) => `@@global.${name}`).join(', ')}`))[0] ?? [];
  const wrong = needed.flatMap(([name, value], index) =>
    (row[index] ?? '').toUpperCase() === value
      ? []
      : [`${name} is ${row[index] ?? 'unset'}, not ${value || 'empty'}`],
  );
  if (wrong.length > 0)
    throw new VerdigrisError('SOURCE_FAILED', `The binary log does not say enough: ${wrong.join(', ')}.`, {
      remedy: 'Set what is named, globally and for the time after a restart; sessions must be opened anew.',
    });
  if (checkpoint === null) return;
  const have = parseGtids(checkpoint);
  const executed = parseGtids(await executedGtids(link));
  if (!executed.covers(have)) {
    const missing =
      have instanceof MysqlGtidSet && executed instanceof MysqlGtidSet
        ? have.minus(executed).toString()
        : checkpoint;
    throw new VerdigrisError(
      'SOURCE_TIMELINE',
      `The source has not executed what our checkpoint holds: ${missing}.`,
      {
        context: { missing },
      },
    );
  }
  const purged = parseGtids(await purgedGtids(link));
  if (have.covers(purged)) return;
  const missing =
    have instanceof MysqlGtidSet && purged instanceof MysqlGtidSet
      ? purged.minus(have).toString()
      : purged.toString();
  throw new VerdigrisError(
    'SOURCE_POSITION_LOST',
    `The source has purged transactions that we have not read: ${missing}.`,
    {
      context: { missing },
    },
  );
}

/** The server keeps its log by age, so there is no budget of ours; what counts is that the checkpoint is still in it. */
export async function readHealth(link: Link, checkpoint: Position | null): Promise<SourceHealth> {
  let detail = '';
  try {
    await checkLog(link, checkpoint);
  } catch (error) {
    if (!(error instanceof VerdigrisError)) throw error;
    detail = error.message;
  }
  // Times of transactions are in the zone of the server's system, ours are in UTC.
  const oldest = await link
    .value(
      `SELECT TIMESTAMPDIFF(SECOND, MIN(trx_started), CONVERT_TZ(NOW(), '+00:00', 'SYSTEM')) FROM information_schema.INNODB_TRX
       WHERE trx_mysql_thread_id NOT IN (SELECT ID FROM information_schema.PROCESSLIST WHERE USER = SUBSTRING_INDEX(USER(), '@', 1))`,
    )
    .catch(() => null);
  return {
    state: detail === '' ? 'available' : 'purged',
    ok: detail === '',
    retainedBytes: null,
    limitBytes: null,
    oldestTransactionSeconds: oldest === null ? null : Math.max(0, Number(oldest)),
    detail,
  };
}
