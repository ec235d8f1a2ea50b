import { expect, test } from 'vitest';
import type { ChangeBatch } from '../../../src/core/change.ts';
import { SYSTEM_CLOCK, type Clock } from '../../../src/core/clock.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { ForeignTransaction, ForeignWriteStore } from '../../../src/core/foreign-writes.ts';
import { SILENT } from '../../../src/core/log.ts';
import { asPosition, type Position } from '../../../src/core/position.ts';
import type { ChangeSource, ChangeStream } from '../../../src/core/source.ts';
import type { Relation } from '../../../src/core/table.ts';
import { ForeignWatch } from '../../../src/verify/foreign-writes.ts';
import { waitFor } from '../../support/wait.ts';

const RELATION: Relation = {
  table: { schema: 'public', name: 't' },
  columns: [
    {
      name: 'id',
      type: 'integer',
      kind: 'integer',
      nullable: false,
      generated: false,
      hasDefault: false,
      exact: true,
      mayBeUnchanged: false,
    },
  ],
  key: [0],
  identity: 'key',
  version: '1',
};

/** A log of numbered transactions: foreign rows, or nothing that a stream would hand out. */
class Log {
  readonly entries: (readonly string[])[] = [];
  opened = 0;
  open = 0;
  lost = false;
  #wake: (() => void)[] = [];

  write(...ids: string[]): void {
    this.entries.push(ids);
    for (const wake of this.#wake.splice(0)) wake();
  }

  source(): ChangeSource {
    const head = (): Position => asPosition(String(this.entries.length));
    const refuse = (): never => {
      throw new VerdigrisError('INTERNAL', 'not asked for');
    };
    return {
      prepare: () => {
        this.lost = false;
        return Promise.resolve(head());
      },
      check: () =>
        this.lost
          ? Promise.reject(new VerdigrisError('SOURCE_SLOT_MISSING', 'the slot is gone'))
          : Promise.resolve(),
      open: (from, signal) => Promise.resolve(this.#stream(Number(from), signal)),
      head: () => Promise.resolve(head()),
      mark: () => {
        this.write();
        return Promise.resolve(head());
      },
      clock: refuse,
      health: refuse,
      retire: () => Promise.resolve(),
    };
  }

  #stream(from: number, signal: AbortSignal): ChangeStream {
    this.opened += 1;
    this.open += 1;
    const { entries } = this;
    const moved = (): Promise<void> =>
      new Promise((resolve, reject) => {
        this.#wake.push(resolve);
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    const close = (): void => {
      this.open -= 1;
    };
    async function* batches(): AsyncGenerator<ChangeBatch, void, undefined> {
      for (let at = from; ; at++) {
        while (at >= entries.length) {
          signal.throwIfAborted();
          await moved();
        }
        yield batch(at + 1, entries[at] ?? []);
      }
    }
    const iterator = batches();
    return {
      ack: () => undefined,
      queued: 0,
      lastReceivedMs: 0,
      received: asPosition('0'),
      [Symbol.asyncIterator]: () => iterator,
      [Symbol.asyncDispose]: () => {
        close();
        return Promise.resolve();
      },
    };
  }
}

const batch = (position: number, ids: readonly string[]): ChangeBatch => ({
  runs:
    ids.length === 0
      ? []
      : [
          {
            relation: RELATION,
            op: 'insert',
            after: ids.map((id) => [id]),
            before: ids.map(() => null),
            transaction: ids.map(() => 0),
          },
        ],
  end: asPosition(String(position)),
  transactions: [{ id: String(position), end: asPosition(String(position)), commitMs: 0 }],
  oldestCommitMs: 0,
  bytes: 1,
  marks: [],
  schemaChanges: [],
  idle: false,
});

class Memory implements ForeignWriteStore {
  upto: Position | null = null;
  settled = 0;
  readonly found = new Map<number, ForeignTransaction>();

  prepare = (): Promise<void> => Promise.resolve();
  retire = (): Promise<void> => Promise.resolve();

  load(): ReturnType<ForeignWriteStore['load']> {
    if (this.upto === null) return Promise.resolve(null);
    const open = [...this.found.values()].filter((one) => one.sequence > this.settled);
    return Promise.resolve({
      upto: this.upto,
      settled: this.settled,
      sequence: this.found.size,
      kept: this.found.size,
      open,
    });
  }

  begin(_: unknown, at: Position): Promise<void> {
    this.upto = at;
    return Promise.resolve();
  }

  record(...[, found, upto]: Parameters<ForeignWriteStore['record']>): Promise<void> {
    for (const one of found) this.found.set(one.sequence, one);
    this.upto = upto ?? this.upto;
    return Promise.resolve();
  }

  settle(_: unknown, sequence: number): Promise<void> {
    this.settled = sequence;
    return Promise.resolve();
  }
}

/** Waits pass at once, one turn each. */
const QUICK: Clock = {
  ...SYSTEM_CLOCK,
  sleep: (ms, signal) => SYSTEM_CLOCK.sleep(Math.min(ms, 5), signal),
};

function watching(log: Log, store: Memory, busy: () => boolean): ForeignWatch {
  return new ForeignWatch({
    source: log.source(),
    tables: () => Promise.resolve([RELATION]),
    prepare: () => Promise.resolve(),
    restore: () => Promise.resolve(),
    positions: {
      covers: (have, want) => Number(have) >= Number(want),
      distance: () => null,
      describe: String,
    },
    store,
    owner: { id: 'm', term: 1, side: 'green' },
    mostKept: null,
    marks: true,
    label: 'm',
    busy,
    clock: QUICK,
    log: SILENT,
    onFound: () => Promise.resolve(),
  });
}

test('the log rests while a backlog is applied, is read again when somebody asks, and nothing in it is missed or found twice', async () => {
  const log = new Log();
  const store = new Memory();
  let busy = false;
  const watch = watching(log, store, () => busy);
  const life = new AbortController();
  watch.start(life.signal);
  await watch.ready(life.signal);
  log.write('1');
  expect(await watch.reach(10_000, life.signal)).toBe(1);
  const evidence = watch.evidence;
  busy = true;
  await waitFor(() => Promise.resolve(log.open === 0), { what: 'the stream to be closed' });
  expect(watch.facts.blind).toBeNull();
  expect(watch.evidence).toBe(evidence);
  log.write('2', '3');
  log.write('4');
  expect(await watch.reach(10_000, life.signal)).toBe(3);
  expect([...store.found.values()].map(({ sequence, rows }) => [sequence, rows['public.t']])).toEqual([
    [1, 1],
    [2, 2],
    [3, 1],
  ]);
  expect(watch.facts).toMatchObject({ blind: null, count: 3 });
  await watch.settle(2);
  expect(watch.facts).toMatchObject({ count: 1, open: [{ sequence: 3 }] });

  await watch.stop();
  expect(watch.facts.blind).not.toBeNull();
  log.write('5');
  busy = false;
  watch.start(life.signal);
  await watch.ready(life.signal);
  expect(await watch.reach(10_000, life.signal)).toBe(4);
  expect(watch.facts.count).toBe(2);
  await watch.stop();
});

test('a backlog that is applied from the start: the log is not even opened before somebody asks', async () => {
  const log = new Log();
  const store = new Memory();
  let busy = true;
  const watch = watching(log, store, () => busy);
  const life = new AbortController();
  watch.start(life.signal);
  await watch.ready(life.signal);
  expect([log.opened, watch.facts.blind]).toEqual([0, null]);
  log.write('1', '2');
  expect(await watch.reach(10_000, life.signal)).toBe(1);
  expect(log.opened).toBe(1);
  await waitFor(() => Promise.resolve(log.open === 0), { what: 'the stream to be closed' });
  log.write('3');
  busy = false;
  await waitFor(() => Promise.resolve(watch.facts.count === 2), { what: 'the rest to be read' });
  expect([...store.found.values()].map(({ rows }) => rows['public.t'])).toEqual([2, 1]);
  await watch.stop();
});

test('a gap in the log changes the evidence, and a log that is not read says so to whoever asks', async () => {
  const log = new Log();
  const store = new Memory();
  const watch = watching(log, store, () => false);
  const life = new AbortController();
  await expect(watch.reach(1_000, life.signal)).rejects.toMatchObject({ code: 'VERIFY_FAILED' });
  watch.start(life.signal);
  await watch.ready(life.signal);
  const before = watch.evidence;
  await watch.stop();
  expect(watch.evidence).toBeNull();
  watch.start(life.signal);
  await watch.ready(life.signal);
  expect(watch.evidence).toBe(before);
  await watch.stop();
  log.lost = true;
  watch.start(life.signal);
  await watch.ready(life.signal);
  expect(watch.evidence).not.toBe(before);
  life.abort(new VerdigrisError('INTERRUPTED', 'the test is over'));
  await watch.stop();
});

test('a side that cannot be reached when its log shall be read from a place is asked again, and nothing behind that place is missed', async () => {
  const log = new Log();
  const store = new Memory();
  log.write('before it');
  log.write('1');
  let lost = 2;
  store.prepare = () =>
    lost-- > 0 ? Promise.reject(new VerdigrisError('SOURCE_CONNECT', 'cut')) : Promise.resolve();
  const watch = watching(log, store, () => false);
  const life = new AbortController();
  watch.start(life.signal, asPosition('1'));
  await waitFor(() => Promise.resolve(watch.facts.blind === null), { what: 'the log to be read' });
  expect(await watch.reach(10_000, life.signal)).toBe(1);
  await watch.stop();
  // What was read is not read again.
  log.write('2');
  watch.start(life.signal, asPosition('1'));
  await watch.ready(life.signal);
  expect(await watch.reach(10_000, life.signal)).toBe(2);
  expect([...store.found.keys()]).toEqual([1, 2]);
  await watch.stop();
});
