import { asPosition, type Position, type Positions } from '../../../src/core/position.ts';
import type { ChangeBatch, ChangeRun, RowRun, SourceTransaction } from '../../../src/core/change.ts';
import type { Clock } from '../../../src/core/clock.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { TablePlan, TargetTable } from '../../../src/core/plan.ts';
import type { ChunkWriter, Hole, HoleChanges, RangeState, Sink, SinkGroup } from '../../../src/core/sink.ts';
import type {
  ChunkReader,
  ChunkRequest,
  KeyRange,
  SnapshotSource,
  Visibility,
} from '../../../src/core/snapshot.ts';
import type { ChangeSource, ChangeStream } from '../../../src/core/source.ts';
import {
  UNCHANGED,
  keyOf,
  type Cell,
  type Column,
  type Relation,
  type Tuple,
} from '../../../src/core/table.ts';

/** A small deterministic random generator (mulberry32). */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const column = (name: string, mayBeUnchanged: boolean): Column => ({
  name,
  type: 'text',
  kind: name === 'k' ? 'integer' : 'text',
  nullable: false,
  generated: false,
  hasDefault: false,
  exact: true,
  mayBeUnchanged,
});

export const RELATION: Relation = {
  table: { schema: 'public', name: 'thing' },
  columns: [column('k', false), column('a', false), column('t', true)],
  key: [0],
  identity: 'key',
  version: '1',
};

const TARGET: TargetTable = { relation: RELATION, merge: null, prefix: 0 };

/** Rows pass as they are; an arriving row that lacks a cell is incomplete, as in the real compiler. */
export const IDENTITY_PLAN: TablePlan = {
  from: RELATION,
  to: [TARGET],
  passthrough: null,
  inputs: [0, 1, 2],
  run: (run) => {
    if (run.op !== 'insert' || !run.after.some((row) => row.includes(UNCHANGED)))
      return { runs: [run], rejects: [] };
    const rejects = run.after.flatMap((row, index) =>
      row.includes(UNCHANGED)
        ? [{ row: index, kind: 'incomplete' as const, column: 't', reason: 'not in the log' }]
        : [],
    );
    const after = run.after.filter((row) => !row.includes(UNCHANGED));
    return { runs: after.length === 0 ? [] : [{ ...run, after, before: after.map(() => null) }], rejects };
  },
};

export const POSITIONS: Positions = {
  covers: (have, want) => Number(have) >= Number(want),
  distance: (from, to) => Number(to) - Number(from),
  describe: (position) => position,
};

interface Row {
  readonly a: string;
  readonly t: string;
}
type Change =
  | { readonly op: 'i'; readonly k: number; readonly row: Row }
  | { readonly op: 'u'; readonly k: number; readonly row: Row; readonly partial: boolean }
  | { readonly op: 'd'; readonly k: number }
  | {
      readonly op: 'k';
      readonly k: number;
      readonly to: number;
      readonly row: Row;
      readonly partial: boolean;
    };

interface Transaction {
  readonly xid: number;
  readonly changes: Change[];
  readonly local: Map<number, Row | undefined>;
  readonly locked: Set<number>;
}
type Entry = { readonly transaction: Transaction } | { readonly mark: string };

export interface WorldOptions {
  readonly keys: number;
  readonly width: number;
  /** Committed transactions become visible late. */
  readonly slow: boolean;
}

/** Blue: transactions with delayed visibility, unchanged large values and key changes; its log; and virtual time. */
export class World {
  readonly r: () => number;
  readonly o: WorldOptions;
  readonly log: Entry[] = [];
  /** Blue after each log entry, by commit order. */
  readonly states: Map<number, Row>[] = [];
  readonly #visible = new Map<number, Row>();
  readonly #seen = new Set<number>();
  #invisible: Transaction[] = [];
  #open: Transaction[] = [];
  readonly #locks = new Set<number>();
  #xid = 1;
  #value = 1;
  #now = 0;
  #sleepers: { at: number; wake: () => void }[] = [];
  #readers: (() => void)[] = [];

  constructor(seed: number, options: WorldOptions) {
    this.r = random(seed);
    this.o = options;
    for (let k = 0; k < options.keys; k++) {
      if (this.r() < 0.7) this.#visible.set(k, { a: `a${this.#value++}`, t: `T${k}` });
    }
    this.states.push(new Map(this.#visible));
  }

  readonly clock: Clock = {
    now: () => this.#now,
    monotonic: () => this.#now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason as Error);
          return;
        }
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        this.#sleepers.push({ at: this.#now + ms, wake: resolve });
      }),
  };

  pick(n: number): number {
    return Math.floor(this.r() * n);
  }

  /** Lets others run for a while. */
  async jitter(): Promise<void> {
    for (let n = this.pick(12); n >= 0; n--) await Promise.resolve();
  }

  /** One thing happens on blue; time goes on. */
  step(): void {
    const r = this.r();
    if (r < 0.35) this.#begin();
    else if (r < 0.65 && this.#open.length > 0) this.#commit(this.pick(this.#open.length));
    else if (r < 0.7 && this.#open.length > 0) this.#abort(this.pick(this.#open.length));
    else if (this.#invisible.length > 0 && this.r() < (this.o.slow ? 0.15 : 0.7))
      this.#show(this.pick(this.#invisible.length));
    this.advance();
  }

  advance(): void {
    this.#now += 5;
    const due = this.#sleepers.filter((sleeper) => sleeper.at <= this.#now);
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.at > this.#now);
    for (const sleeper of due) sleeper.wake();
  }

  /** Ends all transactions and makes them visible. */
  quiesce(): void {
    while (this.#open.length > 0) this.#commit(0);
    while (this.#invisible.length > 0) this.#show(0);
  }

  get head(): number {
    return this.log.length;
  }

  mark(label: string): void {
    this.log.push({ mark: label });
    this.states.push(this.states.at(-1) as Map<number, Row>);
    this.#wakeReaders();
  }

  snapshot(): { rows: Map<number, Row>; seen: Set<number> } {
    return { rows: new Map(this.#visible), seen: new Set(this.#seen) };
  }

  arrival(): Promise<void> {
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  #wakeReaders(): void {
    for (const wake of this.#readers.splice(0)) wake();
  }

  #begin(): void {
    const tx: Transaction = { xid: this.#xid++, changes: [], local: new Map(), locked: new Set() };
    const get = (k: number): Row | undefined => (tx.local.has(k) ? tx.local.get(k) : this.#visible.get(k));
    const lock = (k: number): boolean => {
      if (this.#locks.has(k) && !tx.locked.has(k)) return false;
      this.#locks.add(k);
      tx.locked.add(k);
      return true;
    };
    for (let n = 1 + this.pick(3); n > 0; n--) {
      const k = this.pick(this.o.keys);
      if (!lock(k)) continue;
      const row = get(k);
      if (row === undefined) {
        const fresh = { a: `a${this.#value++}`, t: `T${this.#value}` };
        tx.changes.push({ op: 'i', k, row: fresh });
        tx.local.set(k, fresh);
        continue;
      }
      const partial = this.r() < 0.7;
      const next = { a: `a${this.#value++}`, t: partial ? row.t : `T${this.#value}` };
      const r = this.r();
      if (r < 0.2) {
        tx.changes.push({ op: 'd', k });
        tx.local.set(k, undefined);
      } else if (r < 0.4) {
        const to = this.pick(this.o.keys);
        if (to === k || !lock(to) || get(to) !== undefined) continue;
        tx.changes.push({ op: 'k', k, to, row: next, partial });
        tx.local.set(k, undefined);
        tx.local.set(to, next);
      } else {
        tx.changes.push({ op: 'u', k, row: next, partial });
        tx.local.set(k, next);
      }
    }
    if (tx.changes.length > 0) this.#open.push(tx);
    else for (const k of tx.locked) this.#locks.delete(k);
  }

  #commit(index: number): void {
    const tx = this.#open.splice(index, 1)[0] as Transaction;
    this.log.push({ transaction: tx });
    const state = new Map(this.states.at(-1));
    for (const change of tx.changes) change1(state, change);
    this.states.push(state);
    this.#invisible.push(tx);
    this.#wakeReaders();
  }

  #abort(index: number): void {
    const tx = this.#open.splice(index, 1)[0] as Transaction;
    for (const k of tx.locked) this.#locks.delete(k);
  }

  #show(index: number): void {
    const tx = this.#invisible.splice(index, 1)[0] as Transaction;
    for (const change of tx.changes) change1(this.#visible, change);
    this.#seen.add(tx.xid);
    for (const k of tx.locked) this.#locks.delete(k);
  }
}

function change1(state: Map<number, Row>, change: Change): void {
  if (change.op === 'd') state.delete(change.k);
  else if (change.op === 'k') {
    state.delete(change.k);
    state.set(change.to, change.row);
  } else state.set(change.k, change.row);
}

/** Turns log entries into batches as an engine would: runs span transactions, order inside the table is kept. */
export function batchOf(entries: readonly Entry[], from: number): ChangeBatch {
  const transactions: SourceTransaction[] = [];
  const runs: { op: ChangeRun['op']; after: Tuple[]; before: (Tuple | null)[]; transaction: number[] }[] = [];
  const marks: { label: string; position: Position }[] = [];
  entries.forEach((entry, index) => {
    const end = asPosition(String(from + index + 1));
    if ('mark' in entry) {
      marks.push({ label: entry.mark, position: end });
      return;
    }
    transactions.push({ id: String(entry.transaction.xid), end, commitMs: 0 });
    for (const change of entry.transaction.changes) {
      const op = change.op === 'i' ? 'insert' : change.op === 'd' ? 'delete' : 'update';
      let run = runs.at(-1);
      if (run?.op !== op) runs.push((run = { op, after: [], before: [], transaction: [] }));
      run.transaction.push(transactions.length - 1);
      if (change.op === 'd') {
        run.before.push([String(change.k), UNCHANGED, UNCHANGED]);
        continue;
      }
      const key = change.op === 'k' ? change.to : change.k;
      const partial = change.op !== 'i' && change.partial;
      run.after.push([String(key), change.row.a, partial ? UNCHANGED : change.row.t]);
      run.before.push(change.op === 'k' ? [String(change.k), UNCHANGED, UNCHANGED] : null);
    }
  });
  return {
    runs: runs.map((run) => ({ relation: RELATION, ...run })),
    end: asPosition(String(from + entries.length)),
    transactions,
    oldestCommitMs: transactions.length > 0 ? 0 : null,
    bytes: 10 * runs.length,
    marks,
    schemaChanges: [],
    idle: false,
  };
}

export function sourceOf(world: World): ChangeSource {
  return {
    prepare: () => Promise.resolve(asPosition('0')),
    check: () => world.jitter(),
    head: async () => asPosition(String(world.head)),
    mark: async (label) => {
      await world.jitter();
      world.mark(label);
      return asPosition(String(world.head));
    },
    clock: async () => world.clock.now(),
    health: () =>
      Promise.resolve({
        state: 'reserved',
        ok: true,
        retainedBytes: 0,
        limitBytes: null,
        oldestTransactionSeconds: null,
        detail: '',
      }),
    retire: () => Promise.resolve(),
    open: (from, signal) => {
      let at = Number(from);
      const iterate = async function* (): AsyncGenerator<ChangeBatch> {
        for (;;) {
          while (at >= world.head) {
            signal.throwIfAborted();
            const aborted = new Promise<void>((resolve) =>
              signal.addEventListener('abort', () => resolve(), { once: true }),
            );
            await Promise.race([world.arrival(), aborted]);
          }
          signal.throwIfAborted();
          await world.jitter();
          const count = 1 + world.pick(Math.min(3, world.head - at));
          const batch = batchOf(world.log.slice(at, at + count), at);
          at += count;
          yield batch;
        }
      };
      const stream: ChangeStream = {
        ack: () => undefined,
        get queued() {
          return world.r() < 0.5 ? 0 : world.head - at;
        },
        lastReceivedMs: 0,
        get received() {
          return asPosition(String(at));
        },
        [Symbol.asyncIterator]: iterate,
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
      return Promise.resolve(stream);
    },
  };
}

export function snapshotOf(world: World): SnapshotSource {
  const visibility = (seen: Set<number>): Visibility => ({
    sees: (id) => seen.has(Number(id)),
    describe: () => 'model',
  });
  return {
    estimate: () => Promise.resolve({ rows: world.o.keys, bytes: 0 }),
    split: () => {
      const boundaries: Cell[] = [];
      for (let k = world.o.width; k < world.o.keys; k += world.o.width) boundaries.push(String(k));
      return Promise.resolve(boundaries);
    },
    comparator: () => (left, right) => Number(left) - Number(right),
    bucket: () => Promise.reject(new Error('not used')),
    visibility: async () => {
      await world.jitter();
      return visibility(world.snapshot().seen);
    },
    open: async (request: ChunkRequest) => {
      await world.jitter();
      const { rows, seen } = world.snapshot();
      await world.jitter();
      const reader: ChunkReader = {
        visibility: visibility(seen),
        raw: () => {
          throw new Error('not used');
        },
        rows: async function* () {
          const found = [...rows].filter(([k]) => inRange(k, request.range));
          for (const [k, row] of found) {
            await world.jitter();
            yield [[String(k), row.a, row.t]];
          }
        },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
      return reader;
    },
  };
}

const inRange = (k: number, range: KeyRange): boolean =>
  'keys' in range
    ? range.keys.some((key) => Number(key[0]) === k)
    : (range.lower === null || k >= Number(range.lower)) && (range.upper === null || k < Number(range.upper));

/** What green has durably. */
export interface Green {
  rows: Map<number, Row>;
  checkpoint: number;
  ranges: RangeState[];
  holes: Map<number, Hole>;
}

export const emptyGreen = (): Green => ({ rows: new Map(), checkpoint: 0, ranges: [], holes: new Map() });

/** Applies strictly: what does not fit is a conflict. */
function applyRuns(rows: Map<number, Row>, runs: readonly RowRun[]): void {
  const conflict = (text: string): never => {
    throw new VerdigrisError('SINK_CONFLICT', text);
  };
  for (const run of runs) {
    if (run.op === 'delete') {
      for (const row of run.before)
        if (!rows.delete(Number(row?.[0]))) conflict(`delete misses ${String(row?.[0])}`);
    } else if (run.op === 'replace') {
      for (const row of run.before) rows.delete(Number(row?.[0]));
    } else if (run.op === 'insert') {
      for (const row of run.after) {
        if (row.includes(UNCHANGED)) conflict('insert without a whole row');
        if (rows.has(Number(row[0]))) conflict(`insert finds ${String(row[0])}`);
        rows.set(Number(row[0]), { a: String(row[1]), t: String(row[2]) });
      }
    } else {
      const next: [number, Row][] = run.after.map((row, index) => {
        const old = Number((run.before[index] ?? row)[0]);
        const found = rows.get(old) ?? conflict(`update misses ${old}`);
        return [Number(row[0]), { a: String(row[1]), t: row[2] === UNCHANGED ? found.t : String(row[2]) }];
      });
      run.after.forEach((row, index) => rows.delete(Number((run.before[index] ?? row)[0])));
      for (const [k, row] of next) rows.set(k, row);
    }
  }
}

function applyHoles(holes: Map<number, Hole>, changes: HoleChanges): void {
  for (const { key } of changes.closed) holes.delete(Number(key[0]));
  for (const hole of changes.opened) holes.set(Number(hole.key[0]), hole);
}

/** A sink over `green`; every commit is checked against blue at that checkpoint. `alive` false: the process is dead, nothing commits. */
export function sinkOf(world: World, green: Green, process: { alive: boolean }, check: () => void): Sink {
  const commit = (change: () => void): void => {
    if (!process.alive) throw new VerdigrisError('SINK_FENCED', 'dead');
    change();
    check();
  };
  const sink: Partial<Sink> = {
    checkpoint: () => Promise.resolve(asPosition(String(green.checkpoint))),
    ranges: () => Promise.resolve([...green.ranges]),
    holes: () => Promise.resolve([...green.holes.values()]),
    flush: () => Promise.resolve(asPosition(String(green.checkpoint))),
    abandon: () => Promise.resolve(),
    defineRanges: (unit, boundaries) => {
      const edges = [null, ...boundaries, null];
      green.ranges = edges.slice(1).map((upper, ordinal) => ({
        unit,
        ordinal,
        lower: edges[ordinal] as Cell,
        upper,
        upto: null,
        rows: 0,
        bytes: 0,
      }));
      return Promise.resolve();
    },
    apply: async (group: SinkGroup) => {
      await world.jitter();
      if (world.r() < 0.03) throw new VerdigrisError('SINK_TRANSIENT', 'deadlock');
      const rows = new Map(green.rows);
      applyRuns(rows, group.runs);
      if (Number(group.previous) !== green.checkpoint)
        throw new VerdigrisError('SINK_FENCED', 'another checkpoint');
      commit(() => {
        green.rows = rows;
        green.checkpoint = Number(group.end);
        applyHoles(green.holes, group.holes);
      });
      await world.jitter();
      return group.end;
    },
    openChunk: async ({ ordinal }) => {
      const chunk = new Map<number, Row>();
      const writer: ChunkWriter = {
        raw: () => Promise.reject(new Error('not used')),
        write: async (run) => {
          await world.jitter();
          applyRuns(chunk, [run]);
        },
        close: async (held, holes, upto) => {
          await world.jitter();
          const rows = new Map(green.rows);
          for (const [k, row] of chunk) {
            if (rows.has(k)) throw new VerdigrisError('SINK_CONFLICT', `chunk finds ${k}`);
            rows.set(k, row);
          }
          applyRuns(rows, held);
          commit(() => {
            green.rows = rows;
            applyHoles(green.holes, holes);
            green.ranges = green.ranges.map((range) =>
              range.ordinal === ordinal ? { ...range, upto } : range,
            );
          });
          await world.jitter();
        },
        cancel: () => Promise.resolve(),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
      await world.jitter();
      return writer;
    },
  };
  return sink as Sink;
}

export const keyNumber = (hole: Hole): number => Number(keyOf(RELATION, hole.key as Tuple)[0]);
