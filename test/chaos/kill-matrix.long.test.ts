import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startPostgres } from '../support/postgres.ts';
import { allCases, caseId } from './kill/cases.ts';
import { frontMissing, FRONTS } from './kill/front.ts';
import { isGood, keepResults, readResults, type Result } from './kill/results.ts';
import { KillRig, type Servers } from './kill/rig.ts';
import { prepareCase, runCase } from './kill/run-case.ts';

/**
 * Everything that can be lost × every place in a switch × every proxy; docs/kill-matrix.md is written from what was seen. Part of it:
 * `npm run test:long -- test/chaos/kill-matrix.long.test.ts -t 'haproxy switch kill-blue'`. The proxies can run side by side, each in a
 * process of its own. The whole takes hours: `KILL_MATRIX=open` leaves out what held before and goes on where an earlier run ended.
 */
const missing = new Map<string, string | null>();
for (const front of FRONTS) missing.set(front, await frontMissing(front));
const before = process.env.KILL_MATRIX === 'open' ? await readResults() : {};

describe('kill matrix', () => {
  let servers: Servers;
  let rig: KillRig | null = null;
  const on = new Date().toISOString().slice(0, 10);

  const leave = async (): Promise<void> => {
    const old = rig;
    rig = null;
    await old?.[Symbol.asyncDispose]();
  };

  beforeAll(async () => {
    servers = { blue: await startPostgres({ version: 16 }), green: await startPostgres({ version: 18 }) };
  });
  afterAll(async () => {
    await leave();
    await servers.green[Symbol.asyncDispose]();
    await servers.blue[Symbol.asyncDispose]();
  });

  for (const one of allCases(FRONTS)) {
    const id = caseId(one);
    test.skipIf(missing.get(one.front) !== null || isGood(before[id]))(
      id,
      async () => {
        let result: Result = { on, seen: null, failure: 'it was ended' };
        if (rig !== null && rig.front.name !== one.front) await leave();
        try {
          rig ??= await KillRig.create(one.front, servers);
          await prepareCase(rig, one);
          const seen = await runCase(rig, one);
          result = { on, seen, failure: null };
        } catch (error) {
          result = { on, seen: null, failure: String(error) };
          // What a failed case leaves behind shall not be met by the next one.
          await leave().catch((left: unknown) => console.warn(String(left)));
          throw error;
        } finally {
          // After each: a run that is ended before its time has seen something too.
          await keepResults({ [id]: result });
        }
        expect(isGood(result), JSON.stringify(result)).toBe(true);
      },
      6 * 60_000,
    );
  }
});
