import { VerdigrisError } from '../../core/errors.ts';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { connect, statementTimeout } from './connect.ts';
import type { PostgresConfig } from './config.ts';
import { translate } from './errors.ts';
import { APPLIER_SETTING } from './guards.ts';
import { applicationName, endGhosts, leaseGuard } from './lease.ts';
import { fenced } from './sink-applier.ts';
import { applyContent, APPLY_PREFIX } from './source-mark.ts';
import { literal } from './sql.ts';
import { BatchFailure, sqlState, Wire, type Outcome, type Statement } from './sink-wire.ts';

/** Who writes: the stream whose state and sessions these are. */
export interface SinkStream {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
}

/**
 * How long a session may sit in an open transaction before the server ends it: an engine that is frozen must not hold locks for ever.
 * A chunk waits for the pump to pass its mark, a part of a transaction for the next part.
 */
const IDLE_LIMIT = { apply: '5min', chunk: '15min', finish: '5min' } as const;

/**
 * Every join of ours is a few keys against an index. Statistics are missing right after a copy, and a hash join over a table of
 * millions for a group of ten rows is what the planner then chooses; generic plans also save planning per statement.
 */
const PLANNER = {
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_bitmapscan: 'off',
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
} as const;

export async function openWire(
  stream: SinkStream,
  purpose: keyof typeof IDLE_LIMIT,
  durable: boolean,
): Promise<Wire> {
  const { config, env, options } = stream;
  try {
    const client = await connect(config, {
      applicationName: applicationName(env.migration, purpose, options.term),
      statementTimeoutMs: purpose === 'finish' ? 0 : statementTimeout(config),
      settings: {
        session_replication_role: config.session.session_replication_role,
        [APPLIER_SETTING]: env.migration,
        synchronous_commit: durable ? 'on' : 'off',
        // The side that stopped writing has these the other way round in its database, and the way back writes there.
        default_transaction_read_only: 'off',
        default_transaction_isolation: 'read committed',
        default_transaction_deferrable: 'off',
        lock_timeout: '10s',
        idle_in_transaction_session_timeout: IDLE_LIMIT[purpose],
        tcp_user_timeout: '30s',
        row_security: 'off',
        ...(purpose === 'finish' ? {} : PLANNER),
      },
    });
    return new Wire(client);
  } catch (error) {
    const translated = translate(error, 'sink');
    throw translated.code === 'SINK_FAILED'
      ? new VerdigrisError('SINK_CONNECT', translated.message, { context: translated.context })
      : translated;
  }
}

export const plain = (text: string, values: readonly (string | null)[] = []): Statement => ({ text, values });

/**
 * Signs the open transaction in the log as an apply of ours, before its first row: a stream that reads this side drops it whole. It
 * rides on the guard, so it costs no statement.
 */
export const signature = ({ env, options }: SinkStream): string =>
  `pg_catalog.pg_logical_emit_message(true, ${literal(APPLY_PREFIX)}, ${literal(applyContent(env.migration, options.direction))})`;

const BEGIN = plain('BEGIN');
/** Without replica role constraints are checked as late as they can be: order across tables is not kept. */
const DEFERRED = plain('SET CONSTRAINTS ALL DEFERRED');

/** Begins a transaction whose guard is the write of the checkpoint. */
export const unguardedBegin = ({ config }: SinkStream): readonly Statement[] =>
  config.session.session_replication_role === 'origin' ? [BEGIN, DEFERRED] : [BEGIN];

/** Begins every other transaction, with the guard on the lease. */
export function beginStatements(stream: SinkStream): readonly Statement[] {
  const { env, options } = stream;
  const guard = leaseGuard(env.stateSchema, env.migration, options.term, signature(stream));
  return [...unguardedBegin(stream), guard];
}

/** One guarded transaction of housekeeping. Returns the outcomes of `statements`. */
export async function transact(
  wire: Wire,
  stream: SinkStream,
  statements: readonly Statement[],
): Promise<readonly Outcome[]> {
  const head = beginStatements(stream);
  try {
    const outcomes = await wire.run([...head, ...statements, plain('COMMIT')]);
    return outcomes.slice(head.length, -1);
  } catch (failure) {
    if (!wire.lost) await wire.one('ROLLBACK').catch(() => undefined);
    throw sinkError(failure, head.length);
  }
}

/** What a batch threw, as ours. A division by zero among the first `guards` statements means fenced. */
export function sinkError(
  failure: unknown,
  guards: number,
  context: Readonly<Record<string, unknown>> = {},
): VerdigrisError {
  if (!(failure instanceof BatchFailure)) return translate(failure, 'sink', context);
  if (failure.index < guards && sqlState(failure.error) === '22012') return fenced(context);
  return translate(failure.error, 'sink', context);
}

/** Server processes whose connection was lost, until it is certain that they can commit nothing any more. */
export class Ghosts {
  readonly #migration: string;
  readonly #pids = new Set<number>();

  constructor(migration: string) {
    this.#migration = migration;
  }

  add(wire: Wire): void {
    if (wire.pid !== null) this.#pids.add(wire.pid);
  }

  /** Call before state that they could still change is read. @throws VerdigrisError SINK_LOST while one is there */
  async end(wire: Wire): Promise<void> {
    if (this.#pids.size === 0) return;
    const pids = [...this.#pids];
    const [outcome] = await wire.run([endGhosts(this.#migration, pids)]);
    if (outcome?.rows[0]?.[0] !== '1') {
      throw new VerdigrisError(
        'SINK_LOST',
        'A session of ours whose connection was lost is still at work on the sink.',
      );
    }
    for (const pid of pids) this.#pids.delete(pid);
  }
}
