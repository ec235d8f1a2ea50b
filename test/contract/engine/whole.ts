import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createEngine, type VerdigrisEngine } from '../../../src/app/engine.ts';
import { loadConfig } from '../../../src/app/load.ts';
import type { TableName } from '../../../src/core/table.ts';
import { turn } from '../../support/turn.ts';
import { waitFor } from '../../support/wait.ts';
import { item, type EngineDatabase, type EngineHarness, type Writer } from './harness.ts';
import { newMigration } from './side.ts';

const GATES_MS = 30_000;

const shown = ({ schema, name }: TableName): string => `${schema}.${name}`;

interface Migrated extends AsyncDisposable {
  readonly blue: EngineDatabase;
  readonly green: EngineDatabase;
  readonly from: TableName;
  readonly to: TableName;
  readonly writer: Writer;
  readonly migration: string;
  /** A new engine on the same configuration. */
  engine(): Promise<VerdigrisEngine>;
}

/** Two databases with a table each, and a configuration file that names them. */
async function openMigrated(harness: EngineHarness): Promise<Migrated> {
  const blue = await harness.database('blue');
  const green = await harness.database('green');
  const dir = await mkdtemp(join(tmpdir(), 'verdigris-contract-'));
  const spec = { name: 'items', unique: true };
  const [from, to] = [await blue.table(spec), await green.table(spec)];
  const migration = newMigration();
  const file = join(dir, 'verdigris.yaml');
  const side = (database: EngineDatabase): object => ({
    engine: harness.engine.name,
    state_schema: database.stateSchema,
    ...database.config(),
  });
  const target = shown(from) === shown(to) ? {} : { to: [{ table: shown(to), columns: { '*': 'copy' } }] };
  const config = {
    version: 1,
    migration,
    blue: side(blue),
    green: side(green),
    verify: { after_copy: 'off' },
    apply: { heartbeat: '200ms' },
    gates: { stable_for: '1ms' },
    tables: [{ from: shown(from), ...target }],
  };
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const writer = await blue.writer();
  const engines: VerdigrisEngine[] = [];
  return {
    blue,
    green,
    from,
    to,
    writer,
    migration,
    engine: async () => {
      const engine = createEngine(await loadConfig(file));
      engines.push(engine);
      return engine;
    },
    [Symbol.asyncDispose]: async () => {
      for (const engine of engines) await engine.close();
      await rm(dir, { recursive: true, force: true });
      await writer[Symbol.asyncDispose]();
      await green[Symbol.asyncDispose]();
      await blue[Symbol.asyncDispose]();
    },
  };
}

/** The product on this engine: first copy, stream, verification, restart, the way it is used. */
export function wholeContract(harness: EngineHarness): void {
  describe('the whole', () => {
    test('copy and stream under writes, verify, find a planted difference, repair it, go on after a restart', async () => {
      await using run = await openMigrated(harness);
      const { blue, green, from, to, writer } = run;
      const ids = Array.from({ length: 2_000 }, (_, index) => index + 1);
      for (let at = 0; at < ids.length; at += 500)
        await writer.insert(
          from,
          ...ids
            .slice(at, at + 500)
            .map((id) => item(id, { big: id % 400 === 0 ? 'x'.repeat(9_000) : null })),
        );
      let on = true;
      const churn = async (): Promise<void> => {
        for (let round = 0; on; round += 1) {
          const id = 1 + ((round * 37) % 2_000);
          await writer.update(from, { id, v: `round ${round}` });
          if (round % 5 === 0) await writer.insert(from, item(10_000 + round));
          if (round % 7 === 0)
            await writer.move(from, id, 20_000 + round).then(() => writer.move(from, 20_000 + round, id));
          if (round % 11 === 0) await writer.remove(from, id).then(() => writer.insert(from, item(id)));
        }
      };
      const churning = churn();
      const engine = await run.engine();
      const { hash } = await engine.plan();
      await engine.start({ plan: { hash } });
      on = false;
      await churning;
      const same = async (): Promise<boolean> =>
        JSON.stringify(await blue.rows(from)) === JSON.stringify(await green.rows(to));
      await waitFor(same, { what: 'green to hold what blue holds' });
      expect((await engine.verify({ mode: 'full' })).ok).toBe(true);

      await using vandal = await green.vandal(run.migration);
      await vandal.update(to, { id: 7, v: 'planted' });
      await vandal.remove(to, 8);
      await vandal.insert(to, item(900_000));
      const found = await engine.verify({ mode: 'full' });
      expect(found.ok).toBe(false);
      const mismatches: string[] = [];
      for await (const { kind, key } of found.mismatches)
        mismatches.push(`${kind} ${Object.values(key).join()}`);
      expect(mismatches.toSorted()).toEqual(['different 7', 'extra 900000', 'missing 8']);
      const report = await (await engine.migration()).repair({});
      expect(report).toMatchObject({ repaired: 3, refused: [] });
      expect(await same()).toBe(true);
      await engine.close();

      await writer.insert(from, item(500_000));
      await writer.remove(from, 9);
      const again = await run.engine();
      await again.start();
      await waitFor(same, { what: 'green to catch up after the restart' });
      expect((await again.verify({ mode: 'full' })).ok).toBe(true);
      const status = await again.status();
      expect(status).toMatchObject({ phase: 'replicating', error: null });
      await (await again.migration()).abort({ dropGreenData: false });
    });

    test('a switch, writes on green that flow back, a rollback, and forward again: each side has every row', async () => {
      await using run = await openMigrated(harness);
      const { blue, green, from, to, writer } = run;
      await writer.insert(from, ...Array.from({ length: 300 }, (_, index) => item(index + 1)));
      const engine = await run.engine();
      const { hash } = await engine.plan();
      await engine.start({ plan: { hash } });
      expect((await engine.verify({ mode: 'full' })).ok).toBe(true);
      const same = async (): Promise<boolean> =>
        JSON.stringify(await blue.rows(from)) === JSON.stringify(await green.rows(to));

      await writer.update(from, { id: 7, v: 'before the switch' });
      expect(
        await turn(engine, { act: 'cutover', migration: run.migration, gatesMs: GATES_MS }),
      ).toMatchObject({
        outcome: 'switched',
        to: 'green',
        error: null,
      });
      expect(await engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
      expect(await same()).toBe(true);
      await expect(writer.update(from, { id: 8, v: 'too late' })).rejects.toThrow();

      await using after = await green.writer();
      await after.insert(to, item(1_000), item(1_001, { big: 'x'.repeat(9_000) }));
      await after.update(to, { id: 9, v: 'on green' });
      await after.remove(to, 10);
      await after.move(to, 11, 2_011);
      await after.begin();
      await after.update(to, { id: 1_000, v: 'twice' });
      await after.remove(to, 12);
      await after.commit();
      await waitFor(same, { what: 'blue to hold what was written on green' });

      await after.update(to, { id: 13, v: 'last on green' });
      expect(
        await turn(engine, { act: 'rollback', migration: run.migration, gatesMs: GATES_MS }),
      ).toMatchObject({
        outcome: 'switched',
        to: 'blue',
        error: null,
      });
      expect(await engine.status()).toMatchObject({ phase: 'replicating', activeSide: 'blue' });
      expect(await same()).toBe(true);
      await expect(after.update(to, { id: 14, v: 'too late' })).rejects.toThrow();

      await using again = await blue.writer();
      await again.insert(from, item(3_000));
      await again.update(from, { id: 1_001, v: 'home' });
      await waitFor(same, { what: 'green to follow again' });
      await (await engine.migration()).abort({ dropGreenData: false });
    }, 120_000);
  });
}
