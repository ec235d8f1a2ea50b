import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { Position } from '../../../src/core/position.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait.ts';
import { item, type EngineHarness } from './harness.ts';
import { connectSide, failure, lease, newMigration, NO_HOLES, STREAM, targetOf } from './side.ts';
import { openApplying, type Applying } from './sink.ts';

/** A sink of the same run and term whose connections can be cut. */
async function throughProxy(harness: EngineHarness, green: Applying) {
  const proxy = await startTcpProxy(green.database.address);
  const session = await connectSide(harness, green.database, {
    side: 'green',
    migration: green.migration,
    through: proxy,
  });
  const sink = session.sink({ ...STREAM, term: green.term });
  await sink.prepare([green.target]);
  return {
    proxy,
    sink,
    async [Symbol.asyncDispose]() {
      await proxy.restore();
      await sink[Symbol.asyncDispose]();
      await session[Symbol.asyncDispose]();
      await proxy.close();
    },
  };
}

/** Losses on the way to the sink: after each of them the checkpoint says what is there, and going on from it is exact. */
export function lostSinkContract(harness: EngineHarness): void {
  const { rows } = harness;

  describe('sink, losses', () => {
    test('F05: the reply to COMMIT is lost; the checkpoint says that the group is there', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await using far = await throughProxy(harness, green);
      const first = green.group([rows.insert(relation, item(1))]);
      await far.sink.apply(first);
      green.applied(first);
      far.proxy.delay(300);
      const group = green.group([rows.insert(relation, item(2)), rows.update(relation, { id: 1, v: 'x' })]);
      const outcome = far.sink.apply(group).then(
        () => null,
        (error: unknown) => error,
      );
      await waitFor(async () => (await green.database.rows(green.table)).length === 2, {
        what: 'the commit',
      });
      far.proxy.cut();
      far.proxy.delay(0);
      // A driver that may ask again for the outcome of a commit may find out by itself.
      const error = await outcome;
      if (error !== null) {
        expect(error).toBeInstanceOf(VerdigrisError);
        expect(error).toMatchObject({ directive: 'retry' });
      }
      expect(await far.sink.checkpoint()).toBe(group.end);
      green.applied(group);
      await far.sink.apply(green.group([rows.insert(relation, item(3))]));
      expect(await green.database.rows(green.table)).toEqual([item(1, { v: 'x' }), item(2), item(3)]);
    });

    test('a group that never arrived is applied again on the checkpoint that stands there', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await using far = await throughProxy(harness, green);
      const first = green.group([rows.insert(relation, item(1))]);
      await far.sink.apply(first);
      green.applied(first);
      far.proxy.blackhole();
      const group = green.group([rows.insert(relation, item(2))]);
      const lost = failure(far.sink.apply(group));
      await far.proxy.refuse();
      far.proxy.cut();
      expect(await lost).toMatchObject({ directive: 'retry' });
      expect(await failure(far.sink.checkpoint())).toMatchObject({ directive: 'retry' });
      await far.proxy.restore();
      await waitFor(async () => (await far.sink.checkpoint()) === green.at, { what: 'the checkpoint' });
      await far.sink.apply(group);
      expect(await green.database.rows(green.table)).toEqual([item(1), item(2)]);
    });

    test('F04: a sink that crashes has rows and checkpoint of the same groups, and keeps what it called durable', async () => {
      await using server = await harness.server();
      const database = await server.database();
      const migration = newMigration();
      const session = await connectSide(harness, database, { side: 'green', migration });
      const term = await lease(session, migration);
      const sink = session.sink({ ...STREAM, term });
      const target = await targetOf(session, await database.table({ name: 'items' }));
      await sink.prepare([target]);
      await sink.begin(harness.positions[0] as Position);
      const group = (index: number) => ({
        previous: harness.positions[index - 1] as Position,
        end: harness.positions[index] as Position,
        runs: [rows.insert(target.relation, item(index))],
        holes: NO_HOLES,
        transactions: 1,
        newestCommitMs: 1_700_000_000_000,
      });
      for (let index = 1; index <= 5; index += 1) await sink.apply(group(index));
      const durable = await sink.flush();
      expect(durable).toBe(harness.positions[5]);
      for (let index = 6; index <= 9; index += 1) await sink.apply(group(index));
      await server.kill();
      expect(await failure(sink.apply(group(10)))).toMatchObject({ directive: 'retry' });
      await server.start();
      const checkpoint = await waitFor(() => sink.checkpoint(), { what: 'the sink to be back' });
      const at = harness.positions.indexOf(checkpoint);
      expect(harness.engine.positions.covers(checkpoint, durable)).toBe(true);
      const present = (await database.rows(target.relation.table)).map(({ id }) => id);
      expect(present).toEqual(Array.from({ length: at }, (_, index) => index + 1));
      await sink.apply(group(at + 1));
      expect((await database.rows(target.relation.table)).length).toBe(at + 1);
      await sink[Symbol.asyncDispose]();
      await session[Symbol.asyncDispose]();
    });
  });
}
