import { writeFile } from 'node:fs/promises';
import { BENCH_PROFILES, type BenchLoad } from '../../core/bench.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { EXIT } from '../../app/exit.ts';
import { boundHeap } from '../../app/heap.ts';
import type { LoadedConfig } from '../../app/load.ts';
import { Redactor } from '../../app/redact.ts';
import { onShutdown, type StopSignal } from '../../app/shutdown.ts';
import { hasEnded, readStored } from '../../app/stored.ts';
import { benchOf, runBench } from '../../bench/bench.ts';
import { configurationOf } from '../../bench/configuration.ts';
import type { CommandContext, Outcome } from '../context.ts';
import { plain } from '../format.ts';

export interface BenchCommandOptions {
  readonly profile: string;
  readonly transactions?: string;
  readonly rows?: string;
  readonly repeat: string;
  readonly blue?: string;
  readonly green?: string;
  readonly out?: string;
}

export async function bench(context: CommandContext, options: BenchCommandOptions): Promise<Outcome> {
  const load = loadOption(options);
  const repeat = whole('--repeat', options.repeat);
  const loaded = await configuration(context, options);
  const say = (text: string): void => {
    if (!context.options.quiet) context.terminal.err(`${plain(context.redactor.text(text))}\n`);
  };
  benchOf(loaded);
  if (options.blue === undefined) await refuseBesideRun(context, loaded);
  await confirm(context, load, repeat);
  using _heap = boundHeap();
  const stop = new AbortController();
  let stopped: StopSignal | null = null;
  using _signals = onShutdown({
    close: (signal) => {
      stopped = signal;
      say('removing what the bench made; a second signal ends at once and leaves it');
      stop.abort(
        new VerdigrisError('INTERRUPTED', 'the bench was interrupted', {
          remedy: 'What it made was removed, unless a line above says otherwise. There are no figures.',
        }),
      );
      // The command itself ends the process, once both sides are clean.
      return new Promise<never>(() => undefined);
    },
  });
  const late =
    context.timeoutMs === null
      ? undefined
      : setTimeout(
          () => stop.abort(new VerdigrisError('TIMED_OUT', 'bench took longer than --timeout')),
          context.timeoutMs,
        );
  try {
    const { data, text } = await runBench(loaded, {
      load,
      repeat,
      say,
      signal: stop.signal,
      log: context.logger(),
    });
    return { kind: 'Bench', data, text, warnings: await written(options.out, data) };
  } catch (error) {
    if (stopped !== 'SIGTERM' || !(error instanceof VerdigrisError)) throw error;
    return { kind: 'Bench', data: null, error, exitCode: EXIT.terminated };
  } finally {
    clearTimeout(late);
  }
}

/** The figures must not be lost for want of a folder: they are printed all the same. */
async function written(file: string | undefined, data: unknown): Promise<string[]> {
  if (file === undefined) return [];
  try {
    await writeFile(file, `${JSON.stringify(data, null, 2)}\n`);
    return [];
  } catch (error) {
    return [`${file} cannot be written (${(error as NodeJS.ErrnoException).code ?? 'error'})`];
  }
}

function loadOption({ profile, transactions, rows }: BenchCommandOptions): BenchLoad {
  const known = BENCH_PROFILES.find((name) => name === profile);
  if (known === undefined)
    throw new VerdigrisError('USAGE', `--profile is one of ${BENCH_PROFILES.join(', ')}`);
  if (known === 'catchup' && rows !== undefined)
    throw new VerdigrisError('USAGE', '--rows is for --profile copy');
  if (known === 'copy' && transactions !== undefined)
    throw new VerdigrisError('USAGE', '--transactions is for --profile catchup');
  return known === 'catchup'
    ? { profile: known, size: whole('--transactions', transactions ?? '20000') }
    : { profile: known, size: whole('--rows', rows ?? '500000') };
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1e9)
    throw new VerdigrisError('USAGE', `${name} is a whole number from 1 on`);
  return value;
}

async function configuration(context: CommandContext, options: BenchCommandOptions): Promise<LoadedConfig> {
  const { blue, green } = options;
  if ((blue === undefined) !== (green === undefined))
    throw new VerdigrisError('USAGE', '--blue and --green go together');
  if (blue === undefined || green === undefined) return await context.load();
  const loaded = await configurationOf(blue, green);
  context.redactor = new Redactor(loaded.secrets);
  return loaded;
}

/** The load would be that of the migration's databases, and its log would have to hold it. */
async function refuseBesideRun(context: CommandContext, loaded: LoadedConfig): Promise<void> {
  const record = await readStored(loaded, context.logger());
  if (record === null || hasEnded(record)) return;
  throw new VerdigrisError('CUTOVER_PHASE', `${record.id} is ${record.phase}: no bench beside a migration`, {
    remedy:
      'Run it before `verdigris start`, after `abort` or `finish`, or on other databases (--blue, --green).',
  });
}

async function confirm(context: CommandContext, load: BenchLoad, repeat: number): Promise<void> {
  if (context.options.yes) return;
  if (!context.interactive) {
    throw new VerdigrisError(
      'CONFIRMATION',
      'bench puts load on both databases: it needs --yes where nobody can be asked',
      {
        remedy: 'Pass --yes.',
      },
    );
  }
  const what = load.profile === 'copy' ? 'rows' : 'transactions';
  context.terminal.err(
    `The bench writes ${load.size} ${what} on blue and carries them to green, up to ${2 * repeat} times, in schemas of its own, which it removes.\n`,
  );
  const typed = (await context.terminal.ask?.('Load both databases? (yes/no) ')) ?? '';
  if (typed.trim() !== 'yes')
    throw new VerdigrisError('CONFIRMATION', 'the bench was not confirmed; nothing was changed', {
      remedy: 'Answer yes, or pass --yes.',
    });
}
