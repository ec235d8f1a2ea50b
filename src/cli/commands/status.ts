import { VerdigrisError } from '../../core/errors.ts';
import { statusSchema, type StatusData } from '../../app/envelope.ts';
import { EXIT } from '../../app/exit.ts';
import type { LoadedConfig } from '../../app/load.ts';
import { readStored, storedStatus } from '../../app/stored.ts';
import { durationOption, type CommandContext, type Outcome } from '../context.ts';
import { renderStatus, statusLine } from '../render-status.ts';

export interface StatusOptions {
  readonly watch?: boolean;
  readonly interval: string;
  readonly exitCode?: boolean;
  readonly format?: string;
}

interface Looked {
  readonly status: StatusData;
  readonly running: boolean;
}

/** From the running engine, else from what green remembers. */
async function look(context: CommandContext, loaded: LoadedConfig): Promise<Looked> {
  const answered = await context.client(loaded).find('/api/v1/status');
  if (answered) return { status: statusSchema.parse(answered.data), running: true };
  const record = await readStored(loaded, context.logger());
  return { status: storedStatus(loaded.config.migration, record), running: false };
}

const ENDED: ReadonlySet<string> = new Set(['finished', 'aborted']);
const isReady = ({ status: { phase, gates }, running }: Looked): boolean =>
  (running && phase === 'replicating' && gates.length > 0 && gates.every(({ ok }) => ok)) ||
  phase === 'finished';

export async function status(context: CommandContext, options: StatusOptions): Promise<Outcome | null> {
  const { format } = options;
  if (format !== undefined && !['table', 'json', 'line'].includes(format)) {
    throw new VerdigrisError('USAGE', '--format is table, json or line');
  }
  const loaded = await context.load();
  if (options.watch) {
    await watch(context, loaded, options);
    return null;
  }
  const looked = await look(context, loaded);
  const { status: found, running } = looked;
  return {
    kind: 'Status',
    data: found,
    text: format === 'line' ? statusLine(found) : renderStatus(found),
    warnings: running || ENDED.has(found.phase) ? [] : ['no engine runs; this is what green remembers'],
    exitCode: options.exitCode && !isReady(looked) ? EXIT.pending : EXIT.done,
  };
}

async function watch(context: CommandContext, loaded: LoadedConfig, options: StatusOptions): Promise<void> {
  const interval = durationOption('--interval', options.interval);
  const live = context.terminal.live && !context.json && options.format !== 'line';
  // Loaded where a block is drawn: it takes a tenth of what a command costs to start.
  const block = live ? (await import('log-update')).createLogUpdate(process.stdout) : null;
  for (;;) {
    const { status: found, running } = await look(context, loaded);
    if (block) block(renderStatus(found));
    else context.stream('Status', found, statusLine(found));
    if (!running && ENDED.has(found.phase)) break;
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
  block?.done();
}
