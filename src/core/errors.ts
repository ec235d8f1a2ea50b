/**
 * What the program does about an error: `retry` by itself with back-off, wait for an `operator` and keep everything, or
 * stop for good (`fatal`: going on would lose data).
 */
export type Directive = 'retry' | 'operator' | 'fatal';

interface CodeInfo {
  readonly directive: Directive;
  /** What it means, for the generated reference. */
  readonly meaning: string;
  /** What to do next, unless the error says something more exact. */
  readonly remedy: string;
}

const code = (directive: Directive, meaning: string, remedy: string): CodeInfo => ({
  directive,
  meaning,
  remedy,
});

/** Every error code, once. `docs/errors.md` is generated from this table. */
export const CODES = {
  CONFIG_INVALID: code(
    'operator',
    'The configuration file is not valid.',
    'Correct the named place, then run `verdigris config check`.',
  ),
  CONFIG_NOT_FOUND: code(
    'operator',
    'The configuration file does not exist or cannot be read.',
    'Name it with --config, or write one with `verdigris init`.',
  ),
  CONFIG_SECRET: code(
    'operator',
    'A value that the configuration refers to (environment, file) is not there.',
    'Set the variable or create the file.',
  ),
  CONFIG_ENGINES_DIFFER: code(
    'operator',
    'Blue and green are of different engines.',
    'Use one engine on both sides.',
  ),
  CONFIG_MODULE: code(
    'operator',
    'A module of the mapping cannot be loaded, or an export is missing.',
    'Check path, export name and the permissions of the file.',
  ),
  USAGE: code('operator', 'The command line is not valid.', 'See `verdigris help`.'),
  CONFIRMATION: code(
    'operator',
    'An act that moves traffic or deletes was not confirmed.',
    'Type the migration name, or pass --confirm NAME and --plan FILE.',
  ),
  PLAN_STALE: code(
    'operator',
    'The plan differs from the one that was named.',
    'Run `verdigris plan` again and look at what changed.',
  ),
  ENGINE_NOT_RUNNING: code(
    'operator',
    'No engine answers on the control socket of this migration.',
    'Start it with `verdigris start`.',
  ),
  TIMED_OUT: code('operator', 'The condition did not come true in time.', 'Look at `verdigris status`.'),
  PREFLIGHT_FAILED: code(
    'operator',
    'A check before the start found something that would make the migration fail.',
    'Do what the findings say, then run `verdigris doctor`.',
  ),
  MAPPING_INVALID: code(
    'operator',
    'The mapping does not fit the tables.',
    'Correct the mapping, then run `verdigris plan`.',
  ),
  MAPPING_NO_WAY_BACK: code(
    'operator',
    'Rows of green cannot be mapped back to blue, so a rollback would lose what clients write after the switch.',
    'Give the columns an entry under `reverse:`, or say that you switch without a way back: cutover.reverse_replication.enabled: false.',
  ),
  MAPPING_VALUE: code(
    'operator',
    'A value of blue does not fit the mapping and the mapping says fail.',
    'Correct the row or set on_error, then resume; the stream goes on at the same position.',
  ),
  SCHEMA_TABLE_MISSING: code('operator', 'A table does not exist.', 'Create it or correct the name.'),
  SCHEMA_CHANGED: code(
    'operator',
    'The layout of a mapped table changed while it is being replicated.',
    'Adapt green and the mapping, then copy the table again.',
  ),
  SCHEMA_UNSUPPORTED: code(
    'operator',
    'A table cannot be replicated as it is.',
    'Do what the message says for that table.',
  ),
  SOURCE_CONNECT: code('retry', 'The source cannot be reached.', 'Check address, network and credentials.'),
  SOURCE_LOST: code(
    'retry',
    'The connection to the source was lost.',
    'Nothing to do: it reconnects from the checkpoint.',
  ),
  SOURCE_PRIVILEGE: code('operator', 'A privilege on the source is missing.', 'Run the printed GRANT.'),
  SOURCE_SLOT_MISSING: code(
    'fatal',
    'What keeps the log for us is gone; changes since the checkpoint may be lost.',
    'Abort and start again with a new copy.',
  ),
  SOURCE_POSITION_LOST: code(
    'fatal',
    'The source no longer has the log from our checkpoint on.',
    'Abort and start again with a new copy.',
  ),
  SOURCE_AHEAD: code(
    'fatal',
    'The source was told to forget changes that our checkpoint does not have.',
    'Abort and start again with a new copy.',
  ),
  SOURCE_OTHER_SYSTEM: code(
    'fatal',
    'This is not the database that the checkpoint belongs to.',
    'Check the address of the source.',
  ),
  SOURCE_TIMELINE: code(
    'fatal',
    'The source failed over to a history that does not contain our checkpoint.',
    'Compare both sides before you decide; then copy again.',
  ),
  SOURCE_PUBLICATION_CHANGED: code(
    'fatal',
    'What the source publishes for us was changed or dropped.',
    'Abort and copy the affected tables again.',
  ),
  SOURCE_PROTOCOL: code(
    'fatal',
    'The source sent something this version does not understand.',
    'Report it with the server version; nothing after it was applied.',
  ),
  SOURCE_BUSY: code(
    'retry',
    'Another reader uses our place in the log.',
    'End the other reader; it is retried.',
  ),
  SOURCE_VISIBILITY: code(
    'retry',
    'A committed transaction stays invisible on the source (synchronous replication waits?).',
    'Look at what the named transaction waits for on the source.',
  ),
  SOURCE_FAILED: code('operator', 'The source refused a statement.', 'See the message of the server.'),
  SINK_CONNECT: code('retry', 'The sink cannot be reached.', 'Check address, network and credentials.'),
  SINK_LOST: code(
    'retry',
    'The connection to the sink was lost.',
    'Nothing to do: it reconnects and reads its checkpoint.',
  ),
  SINK_PRIVILEGE: code('operator', 'A privilege on the sink is missing.', 'Run the printed GRANT.'),
  SINK_CONFLICT: code(
    'operator',
    'A change does not fit what stands on the sink.',
    'Look at the named row on both sides; then resume.',
  ),
  SINK_TRANSIENT: code(
    'retry',
    'The sink could not take a group now (deadlock, lock or serialization).',
    'Nothing to do: the group is tried again.',
  ),
  SINK_FULL: code('retry', 'The sink has no room.', 'Make room; the group is tried again.'),
  SINK_FENCED: code(
    'fatal',
    'Another engine has taken over this run.',
    'Use the other engine; this one wrote nothing.',
  ),
  SINK_FAILED: code('operator', 'The sink refused a statement.', 'See the message of the server.'),
  STATE_LEASE_HELD: code(
    'operator',
    'Another engine runs this migration.',
    'Use it, or stop it first; --takeover if it is really gone.',
  ),
  STATE_CONFLICT: code('fatal', 'The stored state was changed by another engine.', 'Use the other engine.'),
  STATE_FORMAT: code(
    'fatal',
    'The stored state is damaged or was made by another version or migration.',
    'Use the version that made it, or abort and start again.',
  ),
  STATE_FAILED: code('operator', 'The state cannot be read or written.', 'See the message of the server.'),
  VERIFY_DIFFERENT: code('operator', 'Blue and green differ.', 'See `verdigris verify show`.'),
  VERIFY_FAILED: code(
    'operator',
    'Verification could not finish.',
    'See the message; run it again, it goes on where it was.',
  ),
  CUTOVER_GATE: code(
    'operator',
    'A gate is not met; nothing was changed.',
    'See which gate; wait or correct it.',
  ),
  CUTOVER_UNDONE: code(
    'operator',
    'The switch failed and was undone; blue serves.',
    'Read the reason, then try again.',
  ),
  CUTOVER_FENCE_LEAKS: code(
    'operator',
    'The fence does not stop every writer.',
    'See the named table and writer.',
  ),
  CUTOVER_UNDETERMINED: code(
    'operator',
    'It is not known which side serves.',
    'Follow the printed instructions.',
  ),
  CUTOVER_PHASE: code('operator', 'This cannot be done in the current phase.', 'See `verdigris status`.'),
  PROXY_UNREACHABLE: code(
    'operator',
    'A proxy cannot be reached.',
    'Check its admin address and credentials.',
  ),
  PROXY_UNEXPECTED: code('operator', 'A proxy answered something unexpected.', 'Look at its configuration.'),
  PROXY_TIMEOUT: code('operator', 'A proxy did not do it in time.', 'Look for long transactions behind it.'),
  INTERRUPTED: code('operator', 'Stopped by a signal; the state is saved.', 'Start again to go on.'),
  INTERNAL: code('fatal', 'A defect of Verdigris.', 'Report it with the log.'),
} as const satisfies Record<string, CodeInfo>;

export type Code = keyof typeof CODES;

export interface ErrorOptions {
  readonly remedy?: string;
  readonly directive?: Directive;
  /** Where exactly: position, table, key columns, constraint. Never a row value, never a secret. */
  readonly context?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** The only error that leaves a folder. The message says what happened and where; `remedy` what to do next. */
export class VerdigrisError extends Error {
  readonly code: Code;
  readonly directive: Directive;
  readonly remedy: string;
  readonly context: Readonly<Record<string, unknown>>;

  constructor(errorCode: Code, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VerdigrisError';
    this.code = errorCode;
    this.directive = options.directive ?? CODES[errorCode].directive;
    this.remedy = options.remedy ?? CODES[errorCode].remedy;
    this.context = options.context ?? {};
  }
}

/** Any thrown thing as a VerdigrisError; what is not one is INTERNAL. */
export function asVerdigrisError(error: unknown): VerdigrisError {
  if (error instanceof VerdigrisError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new VerdigrisError('INTERNAL', message, { cause: error });
}
