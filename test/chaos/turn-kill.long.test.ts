import { STEPS } from '../../src/cutover/step.ts';
import { killedAt } from './turn-kill.ts';

killedAt(STEPS.flatMap((step) => [`${step}.before` as const, `${step}.after` as const]));
