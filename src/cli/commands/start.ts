import { CODES, VerdigrisError, type Code } from '../../core/errors.ts';
import { PHASES, type Phase } from '../../core/state.ts';
import { createEngine, type VerdigrisEngine } from '../../app/engine.ts';
import { parseFailpoints } from '../../app/failpoints.ts';
import { boundHeap } from '../../app/heap.ts';
import { controlSocketPath } from '../../app/socket-path.ts';
import { onShutdown } from '../../app/shutdown.ts';
import { serveControl } from '../../http/server.ts';
import { readPlanHash } from '../confirm.ts';
import { durationOption, type CommandContext, type Outcome } from '../context.ts';
import { renderStatus, statusLine } from '../render-status.ts';
import { parseCondition } from './wait.ts';

export interface StartOptions {
  readonly plan?: string;
  readonly until?: string;
  readonly takeover?: boolean;
  readonly interval: string;
}

export async function start(context: CommandContext, options: StartOptions): Promise<Outcome> {
  const until = options.until;
  if (until !== undefined && !(PHASES as readonly string[]).includes(until)) {
    throw new VerdigrisError('USAGE', `--until is one of ${PHASES.join(', ')}`);
  }
  const interval = durationOption('--interval', options.interval);
  using _heap = boundHeap();
  const loaded = await context.load();
  const hash = options.plan === undefined ? null : await readPlanHash(options.plan);
  const live = context.terminal.live && !context.json && !context.options.quiet;
  // A live block and log lines on one terminal tear each other apart: there only what is wrong is logged.
  const logger = context.logger(live ? 'warn' : 'info');
  const engine = createEngine(loaded, {
    logger,
    failpoints: parseFailpoints(context.terminal.env['VERDIGRIS_FAILPOINT']),
    takeover: options.takeover ?? false,
  });
  const control = await serveControl(controlSocketPath(loaded.config, context.terminal.env), {
    engine,
    redactor: context.redactor,
  });
  const close = async (): Promise<void> => {
    await control[Symbol.asyncDispose]();
    await engine.close();
  };
  const stopped = Promise.withResolvers<'signal'>();
  using _signals = onShutdown({
    close: async (signal) => {
      logger.info({ signal }, 'stopping; everything is saved');
      stopped.resolve('signal');
      await close();
    },
  });
  const watching = new AbortController();
  try {
    const reached = watchRun(context, engine, { interval, live, until, signal: watching.signal });
    const run = engine.start(hash === null ? {} : { plan: { hash } }).then(() => engine.ended());
    const timeout = context.timeoutMs;
    const why = await Promise.race([
      run.then(() => 'ended' as const),
      reached,
      stopped.promise,
      ...(timeout === null ? [] : [timer(timeout, watching.signal)]),
    ]);
    run.catch(() => undefined);
    if (why === 'timeout') {
      throw new VerdigrisError(
        'TIMED_OUT',
        `not ${until ?? 'ended'} after ${context.options.timeout}; the state is saved`,
      );
    }
    // The handler of the signal closes and ends the process with the code of that signal.
    if (why === 'signal') return await new Promise<never>(() => undefined);
    const { phase, activeSide, error } = await engine.status();
    const data = { phase, activeSide };
    if (error) {
      const code: Code = Object.hasOwn(CODES, error.code) ? (error.code as Code) : 'INTERNAL';
      return {
        kind: 'Start',
        data,
        error: new VerdigrisError(code, error.message, { remedy: error.remedy }),
      };
    }
    return {
      kind: 'Start',
      data,
      text: `${context.migration} is ${phase}; ${activeSide} serves. ${NEXT[phase] ?? ''}`.trimEnd(),
    };
  } finally {
    watching.abort();
    await close();
  }
}

const NEXT: Partial<Record<Phase, string>> = {
  copying: 'Go on with `verdigris start`.',
  catching_up: 'Go on with `verdigris start`.',
  replicating: 'Go on with `verdigris start`, then `verdigris cutover --dry-run`.',
};

/** Prints the progress; resolves once the wanted phase is there, else never. */
async function watchRun(
  context: CommandContext,
  engine: VerdigrisEngine,
  options: { interval: number; live: boolean; until: string | undefined; signal: AbortSignal },
): Promise<'reached'> {
  const { interval, live, until, signal } = options;
  // Loaded where a block is drawn: it takes a tenth of what a command costs to start.
  const block = live ? (await import('log-update')).createLogUpdate(process.stdout) : null;
  const holds = until === undefined ? null : parseCondition(`phase=${until}`);
  // Looked at more often than printed: a phase that is waited for should not cost an interval.
  const every = block ? Math.min(interval, 500) : Math.min(interval, 250);
  let printed = -Infinity;
  try {
    for await (const found of engine.watch({ everyMs: every, signal })) {
      const plainStatus = { ...found, gates: [...found.gates], tables: [...found.tables] } as Parameters<
        typeof renderStatus
      >[0];
      if (block) block(renderStatus(plainStatus));
      else if (performance.now() - printed >= interval) {
        context.stream('Status', found, statusLine(plainStatus));
        printed = performance.now();
      }
      if (holds?.(plainStatus)) return 'reached';
    }
  } catch {
    // The run reports its own failure; a status that could not be had is not the reason.
  } finally {
    block?.done();
  }
  return await new Promise<never>(() => undefined);
}

function timer(ms: number, signal: AbortSignal): Promise<'timeout'> {
  return new Promise((resolve) => {
    const handle = setTimeout(() => resolve('timeout'), ms);
    signal.addEventListener('abort', () => clearTimeout(handle), { once: true });
  });
}
