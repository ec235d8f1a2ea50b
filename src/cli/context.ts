import { SILENT, type Logger } from '../core/log.ts';
import { parseDuration } from '../core/units.ts';
import { VerdigrisError } from '../core/errors.ts';
import { envelope, type Envelope, type Kind } from '../app/envelope.ts';
import { loadConfig, type LoadedConfig } from '../app/load.ts';
import { createLogger, LOG_LEVELS, type LogLevel } from '../app/logger.ts';
import { Redactor } from '../app/redact.ts';
import { controlSocketPath } from '../app/socket-path.ts';
import { VERSION } from '../app/version.ts';
import { ControlClient } from './client.ts';

/** What a command meets of the world; tests hand in their own. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  /** Stdout is a terminal: blocks may be redrawn. */
  readonly live: boolean;
  readonly color: boolean;
  /** Asks on the terminal; null where nobody can answer. */
  readonly ask: ((question: string) => Promise<string>) | null;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface GlobalOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly envFile?: string;
  readonly allowExec?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: number;
  readonly color?: boolean;
  readonly logFormat?: string;
  readonly logLevel?: string;
  readonly timeout?: string;
  readonly yes?: boolean;
  /** False with --no-input. */
  readonly input?: boolean;
}

/** What a command gives back. Text is for people, data for programs; only one of them is printed. */
export interface Outcome {
  readonly kind: Kind;
  readonly data: unknown;
  readonly text?: string;
  readonly warnings?: readonly string[];
  /** What kept it from being done although there is something to show. */
  readonly error?: VerdigrisError;
  readonly exitCode?: number;
}

/** One call of one command. */
export class CommandContext {
  readonly terminal: Terminal;
  readonly options: GlobalOptions;
  readonly json: boolean;
  readonly color: boolean;
  readonly timeoutMs: number | null;
  migration: string | null = null;
  redactor = new Redactor();
  readonly warnings: string[] = [];

  constructor(terminal: Terminal, options: GlobalOptions) {
    this.terminal = terminal;
    this.options = options;
    this.json = options.json ?? false;
    this.color = terminal.color && (options.color ?? true) && (terminal.env['NO_COLOR'] ?? '') === '';
    this.timeoutMs = options.timeout === undefined ? null : durationOption('--timeout', options.timeout);
  }

  get configFile(): string {
    return this.options.config ?? this.terminal.env['VERDIGRIS_CONFIG'] ?? 'verdigris.yaml';
  }

  /** Somebody can be asked. */
  get interactive(): boolean {
    return this.terminal.ask !== null && (this.options.input ?? true) && !this.json;
  }

  async load(): Promise<LoadedConfig> {
    const { set, envFile, allowExec } = this.options;
    const loaded = await loadConfig(this.configFile, {
      env: this.terminal.env,
      ...(set === undefined ? {} : { set }),
      ...(envFile === undefined ? {} : { envFile }),
      ...(allowExec === undefined ? {} : { allowExec }),
    });
    this.migration = loaded.config.migration;
    this.redactor = new Redactor(loaded.secrets);
    this.warnings.push(...loaded.warnings);
    return loaded;
  }

  /** @param quietest the level when nothing else was asked for */
  logger(quietest: LogLevel = 'warn'): Logger {
    const { logLevel, logFormat, verbose = 0, quiet } = this.options;
    const asked = LOG_LEVELS.find((known) => known === logLevel);
    if (logLevel !== undefined && !asked) {
      throw new VerdigrisError('USAGE', `--log-level is one of ${LOG_LEVELS.join(', ')}`);
    }
    if (logFormat !== undefined && logFormat !== 'text' && logFormat !== 'json') {
      throw new VerdigrisError('USAGE', '--log-format is text or json');
    }
    const level = asked ?? (quiet ? 'error' : verbose > 1 ? 'debug' : verbose === 1 ? 'info' : quietest);
    if (level === 'silent') return SILENT;
    return createLogger({
      level,
      format: logFormat ?? 'text',
      redactor: this.redactor,
      color: this.color,
      write: (line) => this.terminal.err(line),
    });
  }

  client(loaded: LoadedConfig): ControlClient {
    return new ControlClient(controlSocketPath(loaded.config, this.terminal.env));
  }

  envelope(outcome: Omit<Outcome, 'text' | 'exitCode'>): Envelope {
    return envelope({
      kind: outcome.kind,
      data: outcome.data,
      error: outcome.error ?? null,
      warnings: [...this.warnings, ...(outcome.warnings ?? [])],
      migration: this.migration,
      version: VERSION,
      redactor: this.redactor,
    });
  }

  /** One line of a command that prints more than once. */
  stream(kind: Kind, data: unknown, text: string): void {
    if (this.json) this.terminal.out(`${JSON.stringify(this.envelope({ kind, data }))}\n`);
    else if (!this.options.quiet) this.terminal.out(`${text}\n`);
  }
}

/** @throws VerdigrisError USAGE */
export function durationOption(name: string, text: string): number {
  const value = parseDuration(text);
  if (value === null) throw new VerdigrisError('USAGE', `${name} needs a duration such as 500ms, 30s or 2h`);
  return value;
}
