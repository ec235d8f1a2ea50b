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

async function attempt(what: 'start' | 'cutover', act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (caught) {
    const { code, message, remedy } = asVerdigrisError(caught);
    tell({ kind: 'failed', what, code, message, remedy });
  }
}

async function gatesOpen(): Promise<void> {
  for await (const { gates, phase } of engine.watch({ everyMs: 50 }))
    if (phase === 'replicating' && gates.ready) return;
}

// The parent is gone: nobody would end this process.
process.once('disconnect', () => process.exit(1));
process.on('message', (message: ToEngine) => {
  if (message.kind === 'go') go.resolve();
  else if (message.kind === 'close') void engine.close().then(() => process.exit(0));
  else
    void attempt('cutover', async () => {
      await gatesOpen();
      tell({ kind: 'ready' });
      const { hash } = await engine.plan();
      point = message.point;
      tell({ kind: 'outcome', report: await engine.cutover({ planHash: hash, confirm: engine.name }) });
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
