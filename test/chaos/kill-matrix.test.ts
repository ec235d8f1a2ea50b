import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sharedServer } from '../support/shared-server.ts';
import { boundaries } from './kill/cases.ts';
import { KillRig, type Servers } from './kill/rig.ts';
import { runCase } from './kill/run-case.ts';

/**
 * SIGKILL of the engine at every boundary between two steps, behind PgBouncer. The whole matrix is in kill-matrix.long.test.ts. One
 * migration serves all that end on blue: each case starts the engine again, which must find everything consistent.
 */
describe('the engine is killed between two steps', () => {
  let servers: Servers;
  let rig: KillRig | null = null;
  beforeAll(async () => {
    servers = { blue: await sharedServer(16), green: await sharedServer(18) };
  });
  afterAll(async () => rig?.[Symbol.asyncDispose]());

  test.each(boundaries())('%s', async (point) => {
    rig ??= await KillRig.create('pgbouncer', servers);
    const sealed = ['seal.after', 'open', 'resume', 'smoke'].some((part) => point.includes(part));
    let seen: Awaited<ReturnType<typeof runCase>> | null = null;
    try {
      seen = await runCase(rig, { front: 'pgbouncer', fault: 'kill', point });
    } finally {
      if (seen?.ended !== 'blue') {
        await rig[Symbol.asyncDispose]();
        rig = null;
      }
    }
    expect(seen).toEqual({
      ended: sealed ? 'green' : 'blue',
      by: sealed && !point.includes('smoke') && !point.includes('resume.after') ? 'next start' : 'itself',
      outcome: null,
      clientsMs: expect.any(Number),
      clientErrors: 0,
      lost: 0,
      duplicated: 0,
      unknown: 0,
      changes: sealed ? 1 : 0,
    });
    if (!sealed) expect(seen.clientsMs).toBeLessThan(2_000);
  });
});
