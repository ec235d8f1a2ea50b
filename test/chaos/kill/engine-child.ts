/** An engine in a process of its own, to be killed or frozen: `engine-child.ts CONFIG`. Started by engine.ts. */
import { createEngine } from '../../../src/app/engine.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { asVerdigrisError } from '../../../src/core/errors.ts';
import type { FromEngine, ToEngine } from './engine-messages.ts';

const tell = (message: FromEngine): void => {
  if (process.connected) process.send?.(message);
};

let point: string | null = null;
let go = Promise.withResolvers<void>();

const engine = createEngine(await loadConfig(process.argv[2] as string), {
  takeover: true,
  failpoints: {
    hit: (name) => {
      if (name !== point) return undefined;
      point = null;
      go = Promise.withResolvers<void>();
      tell({ kind: 'reached', point: name });
      return go.promise;
    },
  },
});

async function attempt(what: 'start' | 'turn', act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (caught) {
    const { code, message, remedy } = asVerdigrisError(caught);
    tell({ kind: 'failed', what, code, message, remedy });
  }
}

/** What is verified, and how steady the lag is, is for other tests. */
const OVERRIDES = (['lag-stable', 'verified'] as const).map((gate) => ({ gate, reason: 'test' }));
const PHASES = { cutover: 'replicating', rollback: 'reversing' } as const;

async function gatesOpen(act: 'cutover' | 'rollback'): Promise<void> {
  for await (const { gates, phase } of engine.watch({ everyMs: 50 })) {
    const shut = gates.filter(({ name, ok }) => !ok && OVERRIDES.every(({ gate }) => gate !== name));
    if (phase === PHASES[act] && gates.length > 0 && shut.length === 0) return;
  }
}

// The parent is gone: nobody would end this process.
process.once('disconnect', () => process.exit(1));
process.on('message', (message: ToEngine) => {
  if (message.kind === 'go') go.resolve();
  else if (message.kind === 'close') void engine.close().then(() => process.exit(0));
  else
    void attempt('turn', async () => {
      await gatesOpen(message.act);
      const { hash } = await engine.plan();
      point = message.point;
      const request = { planHash: hash, confirm: engine.name, overrides: OVERRIDES };
      tell({ kind: 'outcome', report: await engine[message.act](request) });
    });
});

engine.on('status', ({ phase, condition, error, gates }) =>
  tell({
    kind: 'status',
    status: { phase, condition, error },
    shut: gates.filter(({ ok }) => !ok).map(({ name, reason }) => `${name}: ${reason}`),
  }),
);
void attempt('start', () => engine.start());
