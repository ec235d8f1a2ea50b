import { Command, CommanderError } from 'commander';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Kind } from '../app/envelope.ts';
import { EXIT, exitCodeOf } from '../app/exit.ts';
import { COMMANDS, GROUPS, type CommandSpec } from './commands.ts';
import { TOPIC_NAMES, topic, version } from './commands/reference.ts';
import { CommandContext, type GlobalOptions, type Outcome, type Terminal } from './context.ts';
import { plain } from './format.ts';

/** Runs one command line and gives its exit code. Prints, but never ends the process and never throws. */
export const runCli = (argv: readonly string[], terminal: Terminal): Promise<number> =>
  new CommandLine(terminal, argv).run();

/** The help page of every command. */
export function helpPages(): Record<string, string> {
  const silent: Terminal = {
    out: () => undefined,
    err: () => undefined,
    live: false,
    color: false,
    ask: null,
    env: {},
  };
  const line = new CommandLine(silent, []);
  const pages: Record<string, string> = {};
  const visit = (command: Command, path: string): void => {
    pages[path] = line.help(command);
    for (const inner of command.commands) visit(inner, `${path} ${inner.name()}`);
  };
  visit(line.program, 'verdigris');
  return pages;
}

const collect = (value: string, before: readonly string[] | undefined): string[] => [
  ...(before ?? []),
  value,
];

class CommandLine {
  readonly program: Command;
  readonly #terminal: Terminal;
  readonly #argv: readonly string[];
  readonly #json: boolean;
  #help = '';
  #kind: Kind = 'Error';
  #context: CommandContext;
  #outcome: Outcome | null = null;

  constructor(terminal: Terminal, argv: readonly string[]) {
    this.#terminal = terminal;
    this.#argv = argv;
    // Known before anything is parsed: an unknown command or option must fail in the same shape.
    this.#json = wantsJson(argv);
    this.#context = new CommandContext(terminal, { json: this.#json });
    this.program = this.#build();
  }

  async run(): Promise<number> {
    let outcome: Outcome | null;
    try {
      await this.program.parseAsync([...this.#argv], { from: 'user' });
      outcome = this.#outcome;
    } catch (error) {
      outcome = this.#failed(error);
    }
    return this.#print(outcome);
  }

  help(command: Command): string {
    this.#help = '';
    command.outputHelp();
    return this.#help.trimEnd();
  }

  #failed(thrown: unknown): Outcome {
    if (!(thrown instanceof CommanderError))
      return { kind: this.#kind, data: null, error: asVerdigrisError(thrown) };
    if (thrown.code === 'commander.helpDisplayed') {
      return { kind: 'Help', data: { text: this.#help.trimEnd() }, text: this.#help.trimEnd() };
    }
    if (thrown.code === 'commander.version') return version();
    const message =
      thrown.code === 'commander.help' ? 'a command is missing' : thrown.message.replace(/^error: /, '');
    return { kind: this.#kind, data: null, error: new VerdigrisError('USAGE', message, { cause: thrown }) };
  }

  #print(outcome: Outcome | null): number {
    if (outcome === null) return EXIT.done;
    const { error, text } = outcome;
    const { redactor, options, warnings } = this.#context;
    if (this.#json) {
      this.#terminal.out(`${JSON.stringify(this.#context.envelope(outcome))}\n`);
    } else {
      if (text !== undefined && text !== '' && !options.quiet) this.#terminal.out(`${text}\n`);
      const show = (line: string): void => this.#terminal.err(`${plain(redactor.text(line))}\n`);
      for (const warning of [...warnings, ...(outcome.warnings ?? [])]) show(`warning: ${warning}`);
      if (error) {
        show(`${error.code}: ${error.message}`);
        show(`  ${error.remedy}`);
        if ((options.verbose ?? 0) > 1)
          this.#terminal.err(`${JSON.stringify(redactor.value(error), null, 2)}\n`);
      }
    }
    return outcome.exitCode ?? (error ? exitCodeOf(error.code) : EXIT.done);
  }

  #build(): Command {
    const program = new Command('verdigris')
      .description('Moves a live database from blue to green while the application keeps writing.')
      .exitOverride()
      .configureOutput({
        writeOut: (text) => void (this.#help += text),
        writeErr: () => undefined,
        outputError: () => undefined,
      })
      .configureHelp({ helpWidth: 110, visibleOptions: (command) => [...command.options] })
      .helpCommand(false)
      .allowExcessArguments(false)
      .version('', '-V, --version', 'version')
      .option('-c, --config <file>', 'configuration file (default: verdigris.yaml, or $VERDIGRIS_CONFIG)')
      .option('--set <path=value>', 'override a value of the configuration (repeatable)', collect)
      .option('--env-file <file>', 'NAME=value lines for ${NAME} in the configuration; the environment wins')
      .option('--allow-exec', 'allow ${cmd:…} in the configuration')
      .option('--json', 'one JSON envelope per result on stdout')
      .option('--quiet', 'no text on stdout')
      .option(
        '-v, --verbose',
        'more log (-vv: everything)',
        (_: string, before: number | undefined) => (before ?? 0) + 1,
      )
      .option('--no-color', 'no colours (also $NO_COLOR)')
      .option('--log-format <format>', 'text or json')
      .option('--log-level <level>', 'debug, info, warn, error or silent')
      .option('--timeout <duration>', 'give up after this time, exit 124')
      .option('--yes', 'no questions; not enough for cutover, abort and finish')
      .option('--no-input', 'never ask')
      .addHelpText(
        'after',
        `\nFurther pages: ${TOPIC_NAMES.map((name) => `verdigris help ${name}`).join(', ')}\n\nExample:\n  verdigris plan --out plan.json && verdigris start --plan plan.json`,
      );
    const groups = new Map<string, Command>();
    for (const spec of COMMANDS) {
      let parent = spec.group === undefined ? program : groups.get(spec.group);
      if (!parent) {
        parent = program.command(spec.group ?? '').description(GROUPS[spec.group ?? ''] ?? '');
        groups.set(spec.group ?? '', parent);
      }
      const command = this.#add(parent, spec);
      if (parent === program) groups.set(spec.name, command);
    }
    program
      .command('help')
      .description('a page of this reference')
      .argument('[page...]', `a command, or ${TOPIC_NAMES.join(', ')}`)
      .addHelpText('after', '\nExample:\n  verdigris help exit-codes')
      .action((page: string[]) => {
        this.#kind = 'Help';
        this.#outcome = this.#page(page);
      });
    return program;
  }

  #add(parent: Command, spec: CommandSpec): Command {
    const command = parent
      .command(spec.name)
      .description(spec.text)
      .addHelpText(
        'after',
        `${spec.details === undefined ? '' : `\n${spec.details}\n`}\nExample:\n  ${spec.example}`,
      );
    for (const { flags, text, fallback, required, repeat } of spec.options ?? []) {
      const option = command.createOption(flags, text).makeOptionMandatory(required ?? false);
      if (fallback !== undefined) option.default(fallback);
      if (repeat) option.argParser(collect);
      command.addOption(option);
    }
    command.action(async () => {
      this.#kind = spec.kind;
      const options = command.optsWithGlobals<GlobalOptions>();
      this.#context = new CommandContext(this.#terminal, { ...options, json: this.#json });
      const work = Promise.resolve(spec.run(this.#context, options as never));
      this.#outcome = await (spec.ownTimeout ? work : within(work, this.#context.timeoutMs, spec.name));
    });
    return command;
  }

  #page(path: readonly string[]): Outcome {
    const found = path.length === 1 ? topic(path[0] as string) : null;
    if (found) return found;
    let command: Command | undefined = this.program;
    for (const name of path) command = command?.commands.find((inner) => inner.name() === name);
    if (!command) {
      throw new VerdigrisError('USAGE', `there is no page ${path.join(' ')}`, {
        remedy: `Pages: every command, ${TOPIC_NAMES.join(', ')}.`,
      });
    }
    const text = this.help(command);
    return { kind: 'Help', data: { text }, text };
  }
}

function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  const given = end < 0 ? argv : argv.slice(0, end);
  const format = given.indexOf('--format');
  return (
    given.includes('--json') ||
    given.includes('--format=json') ||
    (format >= 0 && given[format + 1] === 'json')
  );
}

async function within<T>(work: Promise<T>, timeoutMs: number | null, name: string): Promise<T> {
  if (timeoutMs === null) return await work;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new VerdigrisError('TIMED_OUT', `${name} took longer than --timeout`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined);
  }
}
