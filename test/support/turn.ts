import type { CutoverReport, VerdigrisEngine } from '../../src/app/engine.ts';
import { waitFor } from './wait.ts';

export interface Turn {
  readonly act: 'cutover' | 'rollback';
  readonly migration: string;
  /** How long the gates that look at the logs may take to open, which they do a moment after a start or a switch. */
  readonly gatesMs: number;
}

/** A switch or a rollback, once every gate is open. The rows of the way back are compared by nobody, so that gate is overridden there. */
export async function turn(
  engine: VerdigrisEngine,
  { act, migration, gatesMs }: Turn,
): Promise<CutoverReport> {
  const { hash } = await engine.plan();
  const overrides =
    act === 'rollback' ? [{ gate: 'verified', reason: 'rows that came back are not compared' } as const] : [];
  const shut = async (): Promise<string[]> =>
    (await engine.status()).gates
      .filter(({ name, ok }) => !ok && !overrides.some(({ gate }) => gate === name))
      .map(({ name, observed }) => `${name}: ${observed}`);
  await waitFor(async () => (await shut()).length === 0, {
    what: 'the gates to open',
    timeoutMs: gatesMs,
  }).catch(async (error: unknown) => {
    throw new Error(`${String(error)}: ${(await shut()).join('; ')}`);
  });
  const report = await engine[act]({ planHash: hash, confirm: migration, overrides });
  // Where it was undone the steps tell where the time went.
  if (report.outcome !== 'switched')
    console.warn(
      report.steps.map(({ name, outcome, ms, detail }) => `${name} ${outcome} ${ms} ms ${detail}`).join('\n'),
    );
  return report;
}
