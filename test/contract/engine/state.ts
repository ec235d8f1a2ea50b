import { describe, expect, test } from 'vitest';
import type { Session } from '../../../src/core/engine.ts';
import type { RunRecord } from '../../../src/core/state.ts';
import type { VerificationRound } from '../../../src/core/verification.ts';
import { waitFor } from '../../support/wait.ts';
import type { EngineDatabase, EngineHarness } from './harness.ts';
import { connectSide, failure, newMigration } from './side.ts';

interface Stored extends AsyncDisposable {
  readonly database: EngineDatabase;
  readonly migration: string;
  readonly session: Session;
  /** Another engine of the same run. */
  readonly other: Session;
}

async function openStored(harness: EngineHarness): Promise<Stored> {
  const migration = newMigration();
  const database = await harness.database('green');
  const session = await connectSide(harness, database, { side: 'green', migration });
  const other = await connectSide(harness, database, { side: 'green', migration });
  await Promise.all([session.state.prepare(), other.state.prepare()]);
  return {
    database,
    migration,
    session,
    other,
    [Symbol.asyncDispose]: async () => {
      await other[Symbol.asyncDispose]();
      await session[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

const recordOf = (id: string): RunRecord => ({
  id,
  phase: 'preparing',
  epoch: 3,
  activeSide: 'blue',
  planHash: 'h',
  detail: { a: ['ü"\\', null, 1.5, { b: false }] },
  revision: 0,
});

const LONG = { ttlMs: 60_000, takeover: false };

/** What is durable about a run. */
export function stateContract(harness: EngineHarness): void {
  describe('state', () => {
    test('the record is compared and set by revision and term; of two engines one wins', async () => {
      await using stored = await openStored(harness);
      const { migration, session, other } = stored;
      const term = await session.state.acquire(migration, 'one', LONG);
      expect(await session.state.load(migration)).toBeNull();
      const first = await session.state.save(recordOf(migration), term);
      expect(first).toEqual({ ...recordOf(migration), revision: 1 });
      expect(await other.state.load(migration)).toEqual(first);
      const conflict = { code: 'STATE_CONFLICT', directive: 'fatal' };
      expect(await failure(session.state.save(recordOf(migration), term))).toMatchObject(conflict);
      const saves = await Promise.allSettled([
        session.state.save({ ...first, phase: 'copying' }, term),
        other.state.save({ ...first, phase: 'aborted' }, term),
      ]);
      expect(saves.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
      const now = (await session.state.load(migration)) as RunRecord;
      expect(now).toMatchObject({
        revision: 2,
        phase: saves[0].status === 'fulfilled' ? 'copying' : 'aborted',
      });
      expect(await failure(session.state.save(now, term + 1))).toMatchObject(conflict);
      const next = await other.state.acquire(migration, 'two', { ...LONG, takeover: true });
      expect(await failure(session.state.save(now, term))).toMatchObject(conflict);
      expect(await other.state.save({ ...now, epoch: 4, activeSide: 'green' }, next)).toMatchObject({
        revision: 3,
      });
    });

    test('the lease: refused while fresh, free when it ran out or was released, renewed only under its term', async () => {
      await using stored = await openStored(harness);
      const { migration, session, other } = stored;
      const term = await session.state.acquire(migration, 'one', LONG);
      const held = await failure(other.state.acquire(migration, 'two', LONG));
      expect(held).toMatchObject({ code: 'STATE_LEASE_HELD', directive: 'operator' });
      expect(held.message).toContain('one');
      await session.state.release(migration, term);
      const second = await other.state.acquire(migration, 'two', { ttlMs: 100, takeover: false });
      expect(second).toBeGreaterThan(term);
      expect(await session.state.renew(migration, term)).toBe(false);
      expect(await other.state.renew(migration, second)).toBe(true);
      // A release under an old term is no release.
      await session.state.release(migration, term);
      const third = await waitFor(() => session.state.acquire(migration, 'one', LONG).catch(() => null), {
        what: 'a lease of 100 ms to run out',
      });
      expect(third).toBeGreaterThan(second);
      const terms = [third];
      // Neither may end what the other is at, only what belongs to a term before both.
      for (let round = 0; round < 20; round += 1) {
        const both = await Promise.all(
          [session, other].map(({ state }, index) =>
            state.acquire(migration, `engine ${index}`, { ...LONG, takeover: true }),
          ),
        );
        terms.push(...both);
      }
      expect(new Set(terms).size).toBe(41);
    });

    test('the journal is ordered, timed by the database, read in pages, and of one run', async () => {
      await using stored = await openStored(harness);
      const { state } = stored.session;
      const { migration } = stored;
      expect(await state.events(migration, 0, 10)).toEqual([]);
      for (let n = 1; n <= 5; n += 1) await state.note(migration, 'step', { n, text: 'ü"\\' });
      await state.note(newMigration(), 'step', { n: 99 });
      const events = await stored.other.state.events(migration, 0, 10);
      expect(events.map(({ event, detail }) => [event, detail['n']])).toEqual(
        [1, 2, 3, 4, 5].map((n) => ['step', n]),
      );
      expect(events[0]?.detail).toEqual({ n: 1, text: 'ü"\\' });
      for (const { at } of events) expect(at).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3,6})?Z$/);
      const sequences = events.map(({ sequence }) => sequence);
      expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
      expect(await state.events(migration, sequences[1] as number, 2)).toEqual(events.slice(2, 4));
    });

    test('verification: a round goes on where it was, and only under the term', async () => {
      await using stored = await openStored(harness);
      const { migration, session, other } = stored;
      const term = await session.state.acquire(migration, 'one', LONG);
      await session.verification.prepare();
      await session.verification.prepare();
      expect(await session.verification.load(migration)).toBeNull();
      const round: VerificationRound = {
        number: 1,
        mode: 'full',
        tables: ['shop.items'],
        state: 'running',
        spentMs: 0,
        endedAt: null,
      };
      await session.verification.begin(migration, term, round);
      const progress = {
        table: 'shop.items',
        boundaries: [harness.rows.key(100), harness.rows.key(200)],
        next: 1,
        done: false,
        rows: 100,
        differences: 1,
        unsettled: 0,
      };
      const difference = {
        table: 'shop.items',
        kind: 'missing' as const,
        key: { id: '7' },
        columns: [],
        firstSeen: '2026-11-22T10:00:00.000Z',
      };
      await session.verification.advance(migration, term, progress, [difference]);
      expect(await other.verification.load(migration)).toEqual({
        round,
        tables: [progress],
        differences: [difference],
      });
      const ended = { ...round, state: 'pass' as const, spentMs: 12, endedAt: '2026-11-22T10:00:01.000Z' };
      await session.verification.finish(migration, term, ended, []);
      expect(await other.verification.load(migration)).toMatchObject({ round: ended, differences: [] });
      await other.state.acquire(migration, 'two', { ...LONG, takeover: true });
      expect(await failure(session.verification.begin(migration, term, round))).toMatchObject({
        code: 'SINK_FENCED',
      });
      expect((await other.verification.load(migration))?.round).toEqual(ended);
    });

    test('retire removes one run; state that nobody prepared holds nothing', async () => {
      await using stored = await openStored(harness);
      const { migration, session } = stored;
      const second = newMigration();
      const term = await session.state.acquire(migration, 'one', LONG);
      await session.state.save(recordOf(migration), term);
      await session.state.save(recordOf(second), await session.state.acquire(second, 'one', LONG));
      await session.state.retire(migration);
      expect(await session.state.load(migration)).toBeNull();
      expect(await session.state.load(second)).not.toBeNull();
      await session.state.retire(second);
      await session.state.retire(second);
      expect(await stored.other.state.load(second)).toBeNull();
      expect(await stored.other.state.events(migration, 0, 10)).toEqual([]);
      await stored.other.state.prepare();
      expect(await stored.other.state.load(second)).toBeNull();
    });
  });
}
