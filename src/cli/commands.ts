import type { Kind } from '../app/envelope.ts';
import { abort, finish, pause, resume, verify, verifyRepair, verifyShow } from './commands/acts.ts';
import { approve, approveRevoke, cutoverCancel, rehearse, report } from './commands/control.ts';
import { bench } from './commands/bench.ts';
import { configCheck, configSchema, configShow } from './commands/config.ts';
import { events } from './commands/events.ts';
import { init } from './commands/init.ts';
import { doctor, plan } from './commands/plan.ts';
import { version } from './commands/reference.ts';
import { start } from './commands/start.ts';
import { status } from './commands/status.ts';
import { transformTest } from './commands/transform.ts';
import { cutover, recover, rollback } from './commands/turns.ts';
import { wait } from './commands/wait.ts';
import type { CommandContext, Outcome } from './context.ts';

export interface OptionSpec {
  readonly flags: string;
  readonly text: string;
  readonly fallback?: string;
  readonly required?: true;
  /** May be given more than once. */
  readonly repeat?: true;
}

/** One command: what it says about itself and what it does. */
export interface CommandSpec {
  readonly name: string;
  /** The group it belongs to. */
  readonly group?: string;
  readonly text: string;
  /** Of its envelope, also when it fails. */
  readonly kind: Kind;
  readonly example: string;
  /** What only its own page says, line by line. */
  readonly details?: string;
  readonly options?: readonly OptionSpec[];
  /** It bounds its own waits, because what it began goes on or has to be closed. */
  readonly ownTimeout?: true;
  readonly run: (context: CommandContext, options: never) => Promise<Outcome | null> | Outcome | null;
}

const NAME = { flags: '--confirm <name>', text: 'name of the migration, where nobody can be asked' } as const;
const BY = { flags: '--by <name>', text: 'who you are; default: who called sudo, else the account' } as const;
const PLAN = {
  flags: '--plan <file>',
  text: 'plan that was looked at; its hash must be the plan in force',
} as const;

/** Groups that are not commands themselves. */
export const GROUPS: Readonly<Record<string, string>> = {
  config: 'look at the configuration',
  transform: 'look at the mapping',
};

/** Of a switch and of a rollback. */
const TURN: NonNullable<CommandSpec['options']> = [
  { flags: '--dry-run', text: 'the steps with measured costs; changes nothing' },
  PLAN,
  NAME,
  BY,
  { flags: '--max-write-pause <duration>', text: 'undo when writers would wait longer' },
  {
    flags: '--override <gate=reason>',
    text: 'switch although this gate is not met (repeatable)',
    repeat: true,
  },
];

const BENCH_DETAILS = `It asks first (--yes answers), and refuses while a migration runs there. It makes, and removes also when it is interrupted:
  blue   schemas, replication slots and publications whose names begin with verdigris_bench
  green  schemas, a slot, a publication and a subscription of such names; blue's address and password stand in the
         subscription as long as it is there, and in green's log if that server logs statements
No table of yours is read or written, but what others write meanwhile is in the log that both have to read.
On catchup: 5 rows for each transaction are filled in first. Below some 10000 transactions the start of both is measured.

Without a configuration file:
  verdigris bench --blue "$BLUE_URL" --green "$GREEN_URL" --transactions 100000`;

/** All commands in the order of the help page. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'init',
    text: 'write a commented configuration from what blue holds',
    kind: 'Init',
    example: 'verdigris init --from "$BLUE_URL" --to "$GREEN_URL"',
    options: [
      { flags: '--from <url>', text: 'address of blue' },
      { flags: '--to <url>', text: 'address of green' },
      { flags: '--engine <name>', text: 'database engine' },
      { flags: '--force', text: 'overwrite the file' },
    ],
    run: init,
  },
  {
    name: 'check',
    group: 'config',
    text: 'check the file: every problem with file, line and column',
    kind: 'ConfigCheck',
    example: 'verdigris config check -c verdigris.yaml',
    run: configCheck,
  },
  {
    name: 'show',
    group: 'config',
    text: 'the effective configuration, secrets masked',
    kind: 'Config',
    example: 'verdigris config show --origin',
    options: [{ flags: '--origin', text: 'where each value comes from' }],
    run: configShow,
  },
  {
    name: 'schema',
    group: 'config',
    text: 'the JSON schema of the file',
    kind: 'ConfigSchema',
    example: 'verdigris config schema > schema.json',
    run: configSchema,
  },
  {
    name: 'doctor',
    text: 'check both databases and the proxies; changes nothing',
    kind: 'Doctor',
    example: 'verdigris doctor --fix-sql',
    options: [{ flags: '--fix-sql', text: 'print the statements that would fix it (they are never run)' }],
    run: doctor,
  },
  {
    name: 'plan',
    text: 'everything that would happen; changes nothing',
    kind: 'Plan',
    example: 'verdigris plan --out plan.json',
    options: [
      { flags: '--out <file>', text: 'write the plan and its hash' },
      { flags: '--exit-code', text: 'exit 10 when this plan is not the one in force' },
    ],
    run: plan,
  },
  {
    name: 'bench',
    text: 'measure how fast rows get from blue to green, beside what the server brings itself; loads both',
    details: BENCH_DETAILS,
    kind: 'Bench',
    example: 'verdigris bench --profile copy --rows 2000000 --repeat 3 --yes --out bench.json',
    options: [
      {
        flags: '--profile <name>',
        text: 'catchup: a backlog of small transactions; copy: the first copy',
        fallback: 'catchup',
      },
      { flags: '--transactions <n>', text: 'backlog of catchup; default 20000' },
      { flags: '--rows <n>', text: 'rows of copy; default 500000' },
      { flags: '--repeat <n>', text: 'alternating pairs', fallback: '5' },
      { flags: '--blue <url>', text: 'with --green: these databases, without a configuration file' },
      { flags: '--green <url>', text: 'with --blue' },
      { flags: '--out <file>', text: 'write the figures there' },
    ],
    ownTimeout: true,
    run: bench,
  },
  {
    name: 'test',
    group: 'transform',
    text: 'run real rows through the mapping and print them before and after (prints values)',
    kind: 'TransformTest',
    example: 'verdigris transform test --table public.customers --rows 5',
    options: [
      { flags: '--table <name>', text: 'table of blue', required: true },
      { flags: '--rows <n>', text: 'how many', fallback: '20' },
      { flags: '--where <sql>', text: 'which rows: a condition in the words of blue' },
    ],
    run: transformTest,
  },
  {
    name: 'start',
    text: 'prepare, copy, catch up and keep replicating, in the foreground; goes on where it was',
    kind: 'Start',
    example: 'verdigris start --plan plan.json',
    options: [
      { flags: '--plan <file>', text: 'refuse (exit 11) when the plan is another one' },
      { flags: '--until <phase>', text: 'end once this phase is reached' },
      { flags: '--interval <duration>', text: 'between two lines of progress', fallback: '2s' },
      {
        flags: '--takeover',
        text: 'although the lease of another engine is fresh; only when that engine is gone',
      },
    ],
    ownTimeout: true,
    run: start,
  },
  {
    name: 'status',
    text: 'where it stands and what comes next',
    kind: 'Status',
    example: 'verdigris status --watch',
    options: [
      { flags: '--watch', text: 'again and again' },
      { flags: '--interval <duration>', text: 'with --watch', fallback: '2s' },
      { flags: '--exit-code', text: 'exit 10 when it is not ready for the cutover' },
      { flags: '--format <format>', text: 'table, json or line' },
    ],
    run: status,
  },
  {
    name: 'wait',
    text: 'block until a condition is true; exit 124 when it takes longer than --timeout (default 1h)',
    kind: 'Wait',
    example: 'verdigris wait --for phase=replicating --for gate=ready --timeout 2h',
    options: [
      { flags: '--for <condition>', text: 'phase=X, gate=X or gate=ready', required: true, repeat: true },
    ],
    ownTimeout: true,
    run: wait,
  },
  {
    name: 'events',
    text: 'the journal; NDJSON with --json',
    kind: 'Events',
    example: 'verdigris events --since 120 --json',
    options: [
      { flags: '--since <number>', text: 'only events after this one', fallback: '0' },
      { flags: '--follow', text: 'wait for more' },
    ],
    run: events,
  },
  {
    name: 'pause',
    text: 'stop copying, applying or both',
    kind: 'Paused',
    example: 'verdigris pause --scope copy --reason "month end"',
    options: [
      { flags: '--scope <scope>', text: 'copy, apply or all', fallback: 'all' },
      { flags: '--reason <text>', text: 'shown in status and journal', fallback: '' },
    ],
    ownTimeout: true,
    run: pause,
  },
  {
    name: 'resume',
    text: 'go on after a pause',
    kind: 'Resumed',
    example: 'verdigris resume',
    options: [{ flags: '--scope <scope>', text: 'copy, apply or all', fallback: 'all' }],
    ownTimeout: true,
    run: resume,
  },
  {
    name: 'verify',
    text: 'compare both sides now',
    kind: 'Verify',
    example: 'verdigris verify --tables public.orders',
    options: [
      { flags: '--tables <name>', text: 'only this table (repeatable)', repeat: true },
      { flags: '--mode <mode>', text: 'full, sample or recent', fallback: 'full' },
      { flags: '--max-rows-per-sec <n>', text: 'upper bound for this round' },
    ],
    ownTimeout: true,
    run: verify,
  },
  {
    name: 'show',
    group: 'verify',
    text: 'the last report: which keys differ',
    kind: 'Verify',
    example: 'verdigris verify show',
    run: verifyShow,
  },
  {
    name: 'repair',
    group: 'verify',
    text: 'copy the rows of the last report that differ again, and compare them again',
    kind: 'Repair',
    example: 'verdigris verify repair',
    options: [{ flags: '--tables <name>', text: 'only this table (repeatable)', repeat: true }],
    ownTimeout: true,
    run: verifyRepair,
  },
  {
    name: 'rehearse',
    text: 'a timed switch there and back on rows of our own; moves no client, leaves nothing',
    kind: 'Rehearsal',
    example: 'verdigris rehearse --timeout 5m',
    ownTimeout: true,
    run: rehearse,
  },
  {
    name: 'approve',
    text: 'accept the plan in force; void when the plan changes',
    kind: 'Approval',
    example: 'verdigris approve --as dba --note "looked at plan and dry run" --plan plan.json',
    options: [
      { flags: '--as <role>', text: 'role in which you approve (gates.approvals.roles)' },
      BY,
      { flags: '--note <text>', text: 'stands in the report', fallback: '' },
      { flags: '--plan <file>', text: 'plan that was looked at; refused when it is not the plan in force' },
    ],
    run: approve,
  },
  {
    name: 'revoke',
    group: 'approve',
    text: 'take an approval back',
    kind: 'Revoked',
    example: 'verdigris approve revoke --reason "month end"',
    options: [BY, { flags: '--reason <text>', text: 'stands in the report', fallback: '' }],
    run: approveRevoke,
  },
  {
    name: 'cutover',
    text: 'switch traffic to green, gated; asks for the name of the migration',
    kind: 'Cutover',
    example: 'verdigris cutover --window saturday --plan plan.json --confirm crm-v2',
    options: [
      ...TURN,
      { flags: '--at <time>', text: 'begin by itself from then on: 2026-11-28T02:00:00+01:00' },
      { flags: '--window <name>', text: 'begin by itself while this window is open' },
      {
        flags: '--wait <duration>',
        text: 'begin by itself as soon as every gate is open; given up after this time (with --at: default 1h)',
      },
    ],
    ownTimeout: true,
    run: cutover,
  },
  {
    name: 'rollback',
    text: 'go back to blue with everything that was written on green; asks for the name of the migration',
    kind: 'Rollback',
    example: 'verdigris rollback --dry-run',
    options: TURN,
    ownTimeout: true,
    run: rollback,
  },
  {
    name: 'recover',
    text: 'finish or undo a switch or rollback that was interrupted, by what the fence records say; from any host',
    kind: 'Recover',
    example: 'verdigris recover --takeover',
    options: [
      {
        flags: '--takeover',
        text: 'although the lease of another engine is fresh; only when that engine is gone',
      },
    ],
    ownTimeout: true,
    run: recover,
  },
  {
    name: 'cancel',
    group: 'cutover',
    text: 'end a cutover that waits; undo a cutover or rollback that runs, unless it is past the point of no return',
    kind: 'CutoverRequest',
    example: 'verdigris cutover cancel --reason "incident"',
    options: [BY, { flags: '--reason <text>', text: 'stands in the report' }],
    ownTimeout: true,
    run: cutoverCancel,
  },
  {
    name: 'report',
    text: 'the record of the run for the change ticket',
    kind: 'Report',
    example: 'verdigris report --out crm-v2.md',
    options: [
      { flags: '--format <format>', text: 'markdown or json', fallback: 'markdown' },
      { flags: '--out <file>', text: 'write it there' },
    ],
    run: report,
  },
  {
    name: 'abort',
    text: 'give up before the cutover: removes slot and state, leaves the rows of green',
    kind: 'Aborted',
    example: 'verdigris abort --plan plan.json --confirm crm-v2',
    options: [PLAN, NAME],
    ownTimeout: true,
    run: abort,
  },
  {
    name: 'finish',
    text: 'end after the cutover: removes what we made on both sides',
    kind: 'Finished',
    example: 'verdigris finish --plan plan.json --confirm crm-v2',
    options: [
      PLAN,
      NAME,
      { flags: '--keep-state', text: 'keep journal and state on green' },
      {
        flags: '--report <file>',
        text: 'where the record of the run is written; default: beside the control socket',
      },
    ],
    ownTimeout: true,
    run: finish,
  },
  {
    name: 'version',
    text: 'version of verdigris and of node',
    kind: 'Version',
    example: 'verdigris version --json',
    run: version,
  },
];
