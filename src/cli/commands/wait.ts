import { GATES } from '../../core/gate.ts';
import { PHASES, type Phase } from '../../core/state.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { statusSchema, type StatusData } from '../../app/envelope.ts';
import type { CommandContext, Outcome } from '../context.ts';

// Phases that a run in a given phase has been through: a short phase may pass between two looks.
const PASSED: Readonly<Record<Phase, readonly Phase[]>> = {
  preparing: ['preparing'],
  copying: ['preparing', 'copying'],
  catching_up: ['preparing', 'copying', 'catching_up'],
  replicating: ['preparing', 'copying', 'catching_up', 'replicating'],
  cutting_over: ['preparing', 'copying', 'catching_up', 'replicating', 'cutting_over'],
  undetermined: ['undetermined'],
  reversing: ['preparing', 'copying', 'catching_up', 'replicating', 'cutting_over', 'reversing'],
  finished: ['finished'],
  aborted: ['aborted'],
};
const ENDED: ReadonlySet<Phase> = new Set(['finished', 'aborted']);

/** What the process waits for. @throws VerdigrisError USAGE */
export function parseCondition(text: string): (status: StatusData) => boolean {
  const [kind, name = ''] = text.split('=', 2);
  if (kind === 'phase' && (PHASES as readonly string[]).includes(name)) {
    return ({ phase }) => PASSED[phase].includes(name as Phase);
  }
  if (kind === 'gate' && name === 'ready')
    return ({ gates }) => gates.length > 0 && gates.every(({ ok }) => ok);
  if (kind === 'gate' && (GATES as readonly string[]).includes(name)) {
    return ({ gates }) => gates.some((gate) => gate.name === name && gate.ok);
  }
  throw new VerdigrisError('USAGE', `--for ${text}: not a condition`, {
    remedy: `phase=X (${PHASES.join(', ')}), gate=ready, or gate=X (${GATES.join(', ')})`,
  });
}

const LONGEST_MS = 3_600_000;
const LOOK_MS = 250;

export async function wait(
  context: CommandContext,
  options: { readonly for: readonly string[] },
): Promise<Outcome> {
  const conditions = options.for.map(parseCondition);
  const loaded = await context.load();
  const client = context.client(loaded);
  const started = performance.now();
  const limit = context.timeoutMs ?? LONGEST_MS;
  const wanted = options.for.join(' and ');
  let last = 'no engine was running';
  while (performance.now() - started < limit) {
    const answered = await client.find('/api/v1/status');
    if (answered) {
      const found = statusSchema.parse(answered.data);
      if (conditions.every((holds) => holds(found))) {
        const seconds = (performance.now() - started) / 1_000;
        return {
          kind: 'Wait',
          data: { condition: wanted, seconds },
          text: `${wanted} after ${seconds.toFixed(1)} s`,
        };
      }
      const shut = found.gates.filter(({ ok }) => !ok).map(({ name }) => name);
      last = `phase ${found.phase}, ${found.condition}${shut.length === 0 ? '' : `, gates not met: ${shut.join(', ')}`}`;
      if (ENDED.has(found.phase))
        throw new VerdigrisError(
          'CUTOVER_PHASE',
          `${wanted} cannot come true any more: the run is ${found.phase}`,
        );
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(LOOK_MS, limit)));
  }
  throw new VerdigrisError(
    'TIMED_OUT',
    `${wanted} did not come true in ${(limit / 1_000).toFixed(0)} s; last: ${last}`,
  );
}
