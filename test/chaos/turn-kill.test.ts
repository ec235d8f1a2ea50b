import { STEPS } from '../../src/cutover/step.ts';
import { killedAt } from './turn-kill.ts';

// What is after one step is before the next one; those before anybody waits are in the long test.
killedAt([...STEPS.slice(STEPS.indexOf('pause')).map((step) => `${step}.before` as const), 'smoke.after']);
