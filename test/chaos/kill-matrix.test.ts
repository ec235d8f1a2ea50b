import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { STEPS } from '../../src/cutover/step.ts';
import { sharedServer } from '../support/shared-server.ts';
import { caseId, type KillCase } from './kill/cases.ts';
import { KillRig } from './kill/rig.ts';
import { prepareCase, runCase, type Observed } from './kill/run-case.ts';

/**
 * SIGKILL of the engine at every boundary between two steps, behind PgBouncer; what was sealed ends on green, and a rollback that is killed
 * at the same place leads back. The whole matrix is in kill-matrix.long.test.ts. One migration serves all: each case starts the engine
 * again, which must find everything consistent.
 */
const POINTS = [...STEPS.map((step) => `cutover.step.${step}.before`), 'cutover.step.smoke.after'];
const SEALED = ['open', 'resume', 'smoke'];
const isSealed = (point: string): boolean => SEALED.some((step) => point.includes(`.${step}.`));
/** The clients work already. */
const isOver = (point: string): boolean => point.includes('.smoke.');

const CASES = POINTS.flatMap((point): KillCase[] => {
  const one = { front: 'pgbouncer', fault: 'kill', point } as const;
  return [
    { ...one, direction: 'switch' },
    ...(isSealed(point) ? [{ ...one, direction: 'rollback' } as const] : []),
  ];
});

describe('the engine is killed between two steps', () => {
  let rig: KillRig | null = null;
  const took: Record<string, number> = {};
  beforeAll(async () => {
    rig = await KillRig.create('pgbouncer', { blue: await sharedServer(16), green: await sharedServer(18) });
  });
  afterAll(async () => {
    console.info(`ms from the kill to the first write: ${JSON.stringify(took)}`);
    await rig?.[Symbol.asyncDispose]();
  });

  test.each(CASES.map((one) => [caseId(one), one] as const))(
    '%s',
    async (id, one) => {
      if (rig === null) throw new Error('there is no rig');
      await prepareCase(rig, one);
      const seen = await runCase(rig, one);
      took[id] = seen.clientsMs;
      const sealed = isSealed(one.point);
      const expected: Observed = {
        ended: sealed === (one.direction === 'switch') ? 'green' : 'blue',
        by: sealed && !isOver(one.point) ? 'next start' : 'itself',
        outcome: null,
        clientsMs: seen.clientsMs,
        clientErrors: 0,
        lost: 0,
        duplicated: 0,
        unknown: 0,
        overlaps: 0,
      };
      expect(seen).toEqual(expected);
      if (!sealed) expect(seen.clientsMs).toBeLessThan(2_000);
      // A case takes some three seconds; the bound is for machines that have other things to do.
    },
    180_000,
  );
});
