import { asVerdigrisError } from '../core/errors.ts';
import type { Step } from '../cutover/step.ts';
import type { StepReport } from './api.ts';

const MEASURE_TIMEOUT_MS = 10_000;

/** The list that a real switch runs, with what each step would cost now. Only reads. */
export async function dryRun(steps: readonly Step[], monotonic: () => number): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for (const step of steps) {
    const report = {
      name: step.name,
      description: step.describe(),
      pastPointOfNoReturn: step.pastPointOfNoReturn,
      outcome: 'planned' as const,
    };
    if (step.measure === undefined) {
      reports.push({ ...report, ms: null, detail: '' });
      continue;
    }
    const started = monotonic();
    try {
      const detail = await step.measure(AbortSignal.timeout(MEASURE_TIMEOUT_MS));
      reports.push({ ...report, ms: monotonic() - started, detail });
    } catch (error) {
      reports.push({ ...report, outcome: 'failed', ms: monotonic() - started, detail: asVerdigrisError(error).message });
    }
  }
  return reports;
}
