import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { showTable, type Cell, type Tuple } from '../core/table.ts';
import type { StoredDifference } from '../core/verification.ts';
import type { Changes } from './changes.ts';
import { compare, type Finding } from './compare.ts';
import { digests } from './digests.ts';
import { RowSet } from './row-set.ts';
import { expectedRows, foundRows, WHOLE, type Sides, type Where } from './rows.ts';
import { subjectColumns, subjectOf, type Subject } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

export interface ConfirmOptions {
  readonly sides: Sides;
  readonly changes: Changes;
  /** Resolves when everything that was committed on blue before the call is applied on green. */
  readonly settle: (signal: AbortSignal) => Promise<void>;
  readonly attempts: number;
  /** Subjects that change during a look are not looked at again: who asks compares what changed since anyway. */
  readonly leaveMoving?: boolean;
  readonly delayMs: number;
  readonly clock: Clock;
}

export interface Confirmed {
  readonly differences: readonly StoredDifference[];
  /** Subjects that changed during every look. */
  readonly unsettled: number;
}

/** A difference must be seen this often, each time with no change of the row on its way. */
const CONFIRMATIONS = 2;
/** Whole rows of so many subjects are held at a time. */
const BATCH = 200;

interface Seen {
  readonly subject: Subject;
  times: number;
  readonly since: string;
  findings: readonly Finding[];
}

/**
 * Looks at suspects again until each is proven or gone. A look is a generation: changes are noted from before a first mark;
 * when green has passed it both sides are read; when green has passed a second one, a suspect that the stream has not touched
 * since the start was read in the same state on both sides. Only such a look counts.
 */
export async function confirm(
  options: ConfirmOptions,
  table: VerifyTable,
  suspects: ReadonlyMap<string, Subject>,
  signal: AbortSignal,
): Promise<Confirmed> {
  const { clock, attempts, delayMs, leaveMoving = false } = options;
  let left = 0;
  let open = new Map<string, Seen | null>([...suspects.keys()].map((id) => [id, null]));
  const proven: Seen[] = [];
  for (let attempt = 0; open.size > 0 && attempt < Math.max(attempts, CONFIRMATIONS); attempt++) {
    if (attempt > 0) await clock.sleep(delayMs, signal);
    const asked = new Map([...open.keys()].map((id) => [id, suspects.get(id) as Subject]));
    const { differing, moving } = await look(options, table, asked, signal);
    const next = new Map<string, Seen | null>();
    for (const [id, before] of open) {
      if (moving.has(id) && leaveMoving) left += 1;
      else if (moving.has(id)) next.set(id, before);
      const findings = differing.get(id);
      if (findings === undefined) continue;
      const seen: Seen = {
        subject: asked.get(id) as Subject,
        times: (before?.times ?? 0) + 1,
        since: before?.since ?? new Date(clock.now()).toISOString(),
        findings,
      };
      if (seen.times >= CONFIRMATIONS) proven.push(seen);
      else next.set(id, seen);
    }
    open = next;
  }
  return {
    differences: proven.flatMap(({ findings, since }) =>
      findings.map((finding) => differenceOf(table, finding, since)),
    ),
    unsettled: open.size + left,
  };
}

interface Look {
  /** Differ, and no change was on its way. */
  readonly differing: ReadonlyMap<string, readonly Finding[]>;
  /** Differ, but changed meanwhile. */
  readonly moving: ReadonlySet<string>;
}

async function look(
  { sides, changes, settle }: ConfirmOptions,
  table: VerifyTable,
  subjects: ReadonlyMap<string, Subject>,
  signal: AbortSignal,
): Promise<Look> {
  const start = changes.now;
  await settle(signal);
  const found = await differing(sides, table, subjects, signal);
  if (found.size === 0) return { differing: found, moving: new Set() };
  await settle(signal);
  const touched = changes.since(table.target.relation, start);
  const moving = new Set([...found.keys()].filter((id) => touched === null || touched.has(id)));
  return { differing: new Map([...found].filter(([id]) => !moving.has(id))), moving };
}

/** The subjects whose rows are not the same on both sides, as they are read now. */
export async function differing(
  sides: Sides,
  table: VerifyTable,
  subjects: ReadonlyMap<string, Subject>,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, readonly Finding[]>> {
  const found = new Map<string, Finding[]>();
  const all = [...subjects.values()];
  const byKey = subjectColumns(table).length > 0;
  // Without a key both sides would be read whole: the servers may tell that there is nothing to find.
  if (!byKey && all.length > 0 && (await digests(sides, table, WHOLE)) !== null) return found;
  const step = byKey ? BATCH : MOST_SEARCHED;
  for (let from = 0; from < all.length; from += step) {
    const some = all.slice(from, from + step);
    const asked = new Set(some.map(({ id }) => id));
    const where: Where = byKey ? { subjects: some } : WHOLE;
    for (const finding of await compared(sides, table, { where, asked, signal })) {
      const id = subjectOf(table)(finding.row)?.id ?? finding.id;
      const list = found.get(id);
      if (list === undefined) found.set(id, [finding]);
      else list.push(finding);
    }
  }
  return found;
}

/** Without keys by which rows can be asked for, both sides are read whole for so many suspects at a time. */
const MOST_SEARCHED = 5_000;

async function compared(
  sides: Sides,
  table: VerifyTable,
  { where, asked, signal }: { where: Where; asked: ReadonlySet<string>; signal: AbortSignal },
): Promise<Finding[]> {
  const expected = new RowSet(table);
  const found = new RowSet(table);
  const subject = subjectOf(table);
  const accept = 'subjects' in where ? () => true : (id: string) => asked.has(id);
  const wanted = { most: Number.POSITIVE_INFINITY, accept };
  const take = async (source: AsyncIterable<readonly Tuple[]>, into: RowSet): Promise<void> => {
    for await (const rows of source) {
      signal.throwIfAborted();
      for (const row of rows) if (asked.has(subject(row)?.id ?? '')) into.add(row);
    }
  };
  await Promise.all([
    take(expectedRows(sides, table, where, wanted), expected),
    take(foundRows(sides, table, where), found),
  ]);
  return compare(table, expected, found).map((finding) => ({ ...finding, row: keyOnly(table, finding.row) }));
}

/** Of a row that is kept only what names it: rows may be wide, and many may differ. */
function keyOnly(table: VerifyTable, row: Tuple): Tuple {
  const slim: Cell[] = [];
  for (const column of table.target.relation.key) slim[column] = row[column] as Cell;
  return slim;
}

function differenceOf(table: VerifyTable, finding: Finding, firstSeen: string): StoredDifference {
  const { relation } = table.target;
  const key: Record<string, string | null> = {};
  for (const index of relation.key) {
    const cell = finding.row[index];
    key[relation.columns[index]?.name ?? ''] = cell === null || cell === undefined ? null : String(cell);
  }
  if (relation.key.length === 0)
    key['row hash'] = createHash('sha256').update(finding.id).digest('hex').slice(0, 16);
  return { table: showTable(relation.table), kind: finding.kind, key, columns: finding.columns, firstSeen };
}
