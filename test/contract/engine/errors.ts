import { describe, expect, test } from 'vitest';
import { CODES } from '../../../src/core/errors.ts';
import { freePort } from '../../support/free-port.ts';
import type { EngineHarness } from './harness.ts';
import { connectSide, failure, newMigration } from './side.ts';

/** What the driver throws is ours when it leaves the engine's folder. */
export function errorsContract(harness: EngineHarness): void {
  const { engine } = harness;

  describe('errors and configuration', () => {
    test.each(['blue', 'green'] as const)(
      '%s: nobody listens, and no secret is in the message',
      async (side) => {
        await using database = await harness.database(side);
        const through = { host: '127.0.0.1', port: await freePort() };
        const error = await failure(
          connectSide(harness, database, { side, migration: newMigration(), through }),
        );
        expect(error).toMatchObject({
          code: side === 'blue' ? 'SOURCE_CONNECT' : 'SINK_CONNECT',
          directive: 'retry',
        });
        expect(harness.secret.length).toBeGreaterThan(5);
        expect(JSON.stringify(database.config())).toContain(harness.secret);
        expect(
          JSON.stringify([error.message, error.context, error.remedy, String(error.cause)]),
        ).not.toContain(harness.secret);
      },
    );

    test('a statement: its value, its time-out, its error', async () => {
      await using database = await harness.database('blue');
      await using session = await connectSide(harness, database, { side: 'blue', migration: newMigration() });
      const { one, slow, wrong } = harness.statements;
      expect(await session.scalar(one, 10_000)).toBe('1');
      for (const error of [
        await failure(session.scalar(slow, 200)),
        await failure(session.scalar(wrong, 10_000)),
      ]) {
        expect(Object.keys(CODES)).toContain(error.code);
        expect(error.code).not.toBe('INTERNAL');
        expect(error.remedy).not.toBe('');
      }
      expect(await session.scalar(one, 10_000)).toBe('1');
    });

    test('the configuration: unknown keys and wrong types are named by path, and nothing is thrown', async () => {
      await using database = await harness.database('blue');
      const good = database.config();
      expect('config' in engine.parseConfig(good)).toBe(true);
      const wrong = engine.parseConfig({ ...good, no_such_key: 1, url: 7 });
      if (!('issues' in wrong)) throw new Error('it was taken');
      expect(wrong.issues.map(({ path }) => path.join('.'))).toEqual(
        expect.arrayContaining(['no_such_key', 'url']),
      );
      for (const { message } of wrong.issues) expect(message).not.toBe('');
      for (const input of [null, 'text', [], 7]) expect('issues' in engine.parseConfig(input)).toBe(true);
      expect(engine.jsonSchema()).toMatchObject({ type: 'object', properties: { url: expect.anything() } });
      expect(engine.name).toMatch(/^[a-z]+$/);
    });

    test('a session that is disposed of twice ends', async () => {
      await using database = await harness.database('blue');
      const session = await connectSide(harness, database, { side: 'blue', migration: newMigration() });
      await session[Symbol.asyncDispose]();
      await session[Symbol.asyncDispose]();
    });
  });
}
