import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { FinishStep } from '../../core/sink.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import type { Link } from './connect.ts';
import { errnoOf, ERRNO, translate } from './errors.ts';
import { keyIndex, readLayout } from './catalog-layout.ts';
import { openSinkLink } from './sink-session.ts';
import { ownerCondition, tableOf, type SinkStream } from './sink-storage.ts';
import { ident, literal, qualified } from './sql.ts';

/** A metadata lock that cannot be had, a foreign key's index that is in use, a key that is there or gone already. */
const LOCKED = 1205;
const THERE = new Set([1061, 1826, 121]);
const GONE = new Set([1091]);
const NEEDED = 1553;
const LOCK_TRIES = 30;
/** What writers do to a build beside them: a duplicate that is none in the end, and more changes than its log has room for. */
const ONLINE = new Set<number>([ERRNO.DUPLICATE_ENTRY, ERRNO.DUPLICATE_UNKNOWN, 1799]);
/** Builds of unique indexes beside the stream, before its writers have to wait. */
const ONLINE_TRIES = 2;
/** Bytes that one build sorts in memory, before it merges from files; a MySQL server's own default is 1 MB. */
const SORT_BYTES = 64 * 1024 * 1024;

interface Item {
  readonly table: TableName;
  readonly kind: 'index' | 'foreign';
  readonly name: string;
  readonly definition: string;
}

/**
 * Records secondary indexes and foreign keys of the empty tables, as the server itself prints them, and drops them. DDL commits by
 * itself here, so what is dropped is recorded before: a restart finds what is still to be dropped, or to be built.
 */
export async function deferIndexes(
  link: Link,
  stream: SinkStream,
  tables: readonly TargetTable[],
): Promise<void> {
  const mapped = uniqueTables(tables);
  for (const table of mapped) {
    for (const item of await definitionsOf(link, table)) {
      await link.run(
        `INSERT IGNORE INTO ${tableOf(stream, 'deferred')} (id, direction, table_schema, table_name, kind, name, definition) VALUES
         (${literal(stream.env.migration)}, ${literal(stream.options.direction)}, ${literal(table.schema)}, ${literal(table.name)},
          ${literal(item.kind)}, ${literal(item.name)}, ${literal(item.definition)})`,
      );
    }
  }
  await stream.env.failpoints.hit('sink.indexes-recorded');
  const items = await pendingItems(link, stream);
  const empty = new Set<string>();
  for (const table of mapped) {
    const row = await link.value(`SELECT 1 FROM ${qualified(table)} LIMIT 1`);
    if (row === null) empty.add(tableId(table));
  }
  // Foreign keys first: they hold on to indexes, of their own table and of others.
  for (const item of [
    ...items.filter(({ kind }) => kind === 'foreign'),
    ...items.filter(({ kind }) => kind === 'index'),
  ]) {
    if (!empty.has(tableId(item.table))) continue;
    const what = item.kind === 'foreign' ? 'FOREIGN KEY' : 'INDEX';
    try {
      await link.run(`ALTER TABLE ${qualified(item.table)} DROP ${what} ${ident(item.name)}`);
    } catch (error) {
      const errno = errnoOf(error);
      // Gone since an earlier attempt; or a foreign key of a table that is not ours needs it, and it stays.
      if (errno !== null && GONE.has(errno)) continue;
      if (errno === NEEDED) await markDone(link, stream, item);
      else throw translate(error, 'sink', { table: showTable(item.table), constraint: item.name });
    }
  }
}

/** Lines of SHOW CREATE TABLE that stand for secondary indexes and foreign keys, without the comma at their end. */
async function definitionsOf(link: Link, table: TableName): Promise<readonly Item[]> {
  const layout = await readLayout(link, table);
  const created = (await link.rows(`SHOW CREATE TABLE ${qualified(table)}`))[0]?.[1] ?? '';
  const identity = keyIndex(layout)?.name;
  const automatic = layout.columns.find((column) => column.autoIncrement)?.name;
  // An auto-increment column must lead some index; where that is a secondary one, it stays.
  const anchor = layout.indexes.find((index) => index.columns[0] === automatic && index.name === 'PRIMARY')
    ? undefined
    : layout.indexes.find((index) => index.columns[0] === automatic)?.name;
  const items: Item[] = [];
  for (const line of created.split('\n')) {
    const definition = line.trim().replace(/,$/, '');
    const index = /^(?:UNIQUE |FULLTEXT |SPATIAL )?KEY `((?:[^`]|``)+)`/.exec(definition);
    const foreign = /^CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY/.exec(definition);
    const name = (index ?? foreign)?.[1]?.replaceAll('``', '`');
    if (name === undefined) continue;
    if (index !== null && (name === identity || name === anchor)) continue;
    items.push({ table, kind: index === null ? 'foreign' : 'index', name, definition });
  }
  return items;
}

/**
 * Builds what was dropped: indexes, all of a table in one pass over it, then foreign keys, checked by a query first so that the server
 * need not copy the table to check them, then statistics.
 */
export async function finishDeferred(
  stream: SinkStream,
  tables: readonly TargetTable[],
  progress: (step: FinishStep) => void,
  signal: AbortSignal,
): Promise<void> {
  await using link = await openBuilder(stream);
  await using second = await openBuilder(stream);
  const abort = (): void => [link, second].forEach((one) => one.destroy());
  signal.addEventListener('abort', abort, { once: true });
  try {
    const items = await pendingItems(link, stream);
    const mapped = uniqueTables(tables);
    const total = items.length + mapped.length;
    let done = 0;
    const report = (table: TableName, kind: FinishStep['kind'], name: string): void => {
      done += 1;
      progress({ table, kind, name, done, total });
    };
    const left = [...mapped];
    await both([link, second], async (builder) => {
      for (let table = left.shift(); table !== undefined; table = left.shift()) {
        const id = tableId(table);
        const own = items.filter((item) => item.kind === 'index' && tableId(item.table) === id);
        await buildIndexes(builder, stream, table, own);
        for (const item of own) report(table, 'index', item.name);
      }
    });
    for (const item of items.filter(({ kind }) => kind === 'foreign')) {
      await checkForeignKey(link, item);
      await patiently(item.table, item.name, () =>
        link.run(`ALTER TABLE ${qualified(item.table)} ADD ${item.definition}`),
      );
      await markDone(link, stream, item);
      report(item.table, 'constraint', item.name);
    }
    for (const table of mapped) {
      await link.rows(`ANALYZE NO_WRITE_TO_BINLOG TABLE ${qualified(table)}`);
      report(table, 'statistics', table.name);
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

async function openBuilder(stream: SinkStream): Promise<Link> {
  const link = await openSinkLink(stream, 'finish');
  // MariaDB does not know it, nor does MySQL before 8.0.27.
  await link.run(`SET SESSION innodb_ddl_buffer_size = ${SORT_BYTES}`).catch(() => undefined);
  return link;
}

/** Work on both connections at the same time: one keeps one core busy. Ends when both have ended. */
async function both(links: readonly Link[], work: (link: Link) => Promise<void>): Promise<void> {
  const ends = await Promise.allSettled(links.map(work));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

async function buildIndexes(
  link: Link,
  stream: SinkStream,
  table: TableName,
  items: readonly Item[],
): Promise<void> {
  const there = new Set((await readLayout(link, table)).indexes.map((index) => index.name));
  // A FULLTEXT index is built alone: the server builds one at a time.
  const alone = (item: Item): boolean => /^(FULLTEXT|SPATIAL)/.test(item.definition);
  const missing = items.filter((item) => !there.has(item.name));
  const groups = [missing.filter((item) => !alone(item)), ...missing.filter(alone).map((item) => [item])];
  for (const group of groups) {
    if (group.length === 0) continue;
    const list = group.map((item) => `ADD ${item.definition}`).join(', ');
    await patiently(table, group.map((item) => item.name).join(', '), () =>
      build(link, `ALTER TABLE ${qualified(table)} ${list}`),
    );
  }
  for (const item of items) await markDone(link, stream, item);
}

/**
 * Beside the stream first. The server then logs what writers do, in bounded room, and plays it into a unique index row by row, so two
 * rows that exchange a value in one transaction count as a duplicate there. When it has failed twice the writers of the table wait, and
 * a duplicate that is found then is one.
 */
async function build(link: Link, sql: string): Promise<void> {
  for (let attempt = 1; attempt <= ONLINE_TRIES; attempt += 1) {
    try {
      await link.run(sql);
      return;
    } catch (error) {
      if (!ONLINE.has(errnoOf(error) ?? 0)) throw error;
    }
  }
  await link.run(`${sql}, LOCK = SHARED`);
}

/** Tries again while the metadata lock cannot be had: the stream writes to the table all the time. */
async function patiently(table: TableName, name: string, work: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await work();
      return;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== null && THERE.has(errno)) return;
      if (errno === LOCKED && attempt < LOCK_TRIES) continue;
      const translated = translate(error, 'sink', { table: showTable(table), constraint: name });
      throw new VerdigrisError(translated.code, `${name} of ${showTable(table)}: ${translated.message}`, {
        context: translated.context,
      });
    }
  }
}

const LIST = '\\(((?:`(?:[^`]|``)+`(?:, ?)?)+)\\)';

/** Rows that point at nothing: foreign keys were not checked while the rows came. */
async function checkForeignKey(link: Link, item: Item): Promise<void> {
  const match = new RegExp(`FOREIGN KEY ${LIST} REFERENCES (.+?) ${LIST}`).exec(item.definition);
  if (match === null) return;
  const split = (list: string): string[] => list.split(/, ?(?=`)/);
  const [from, to] = [split(match[1] as string), split(match[3] as string)];
  const parent = (match[2] as string).includes('.')
    ? (match[2] as string)
    : `${ident(item.table.schema)}.${match[2]}`;
  const on = from.map((column, index) => `c.${column} = p.${to[index]}`).join(' AND ');
  const set = from.map((column) => `c.${column} IS NOT NULL`).join(' AND ');
  const key = (keyIndex(await readLayout(link, item.table))?.columns ?? []) as readonly string[];
  const selected = ['1', ...key.map((column) => `c.${ident(column)}`)].join(', ');
  const [orphan] = await link.rows(
    `SELECT ${selected} FROM ${qualified(item.table)} c LEFT JOIN ${parent} p ON ${on} WHERE ${set} AND p.${to[0]} IS NULL LIMIT 1`,
  );
  if (orphan === undefined) return;
  throw new VerdigrisError(
    'SINK_CONFLICT',
    `Rows of ${showTable(item.table)} point at rows that do not exist (${item.name}).`,
    {
      context: {
        table: showTable(item.table),
        constraint: item.name,
        ...(key.length === 0
          ? {}
          : { key: Object.fromEntries(key.map((column, index) => [column, orphan[index + 1]])) }),
      },
      remedy: 'Correct the rows on blue, or drop the foreign key from the schema of green; then resume.',
    },
  );
}

async function pendingItems(link: Link, stream: SinkStream): Promise<readonly Item[]> {
  const rows = await link.rows(
    `SELECT table_schema, table_name, kind, name, definition FROM ${tableOf(stream, 'deferred')}
     WHERE ${ownerCondition(stream)} AND done = 0 ORDER BY ordinal`,
  );
  return rows.map((row) => ({
    table: { schema: row[0] as string, name: row[1] as string },
    kind: row[2] as Item['kind'],
    name: row[3] as string,
    definition: row[4] as string,
  }));
}

async function markDone(link: Link, stream: SinkStream, item: Item): Promise<void> {
  await link.run(
    `UPDATE ${tableOf(stream, 'deferred')} SET done = 1 WHERE ${ownerCondition(stream)} AND table_schema = ${literal(item.table.schema)}
     AND table_name = ${literal(item.table.name)} AND kind = ${literal(item.kind)} AND name = ${literal(item.name)}`,
  );
}

const uniqueTables = (tables: readonly TargetTable[]): readonly TableName[] => [
  ...new Map(tables.map(({ relation }) => [tableId(relation.table), relation.table])).values(),
];
