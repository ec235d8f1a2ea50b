import type { ClientSession, Db, MongoClient } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import type { HoleChanges } from '../../core/sink.ts';
import { tableId } from '../../core/table.ts';
import { translate } from './errors.ts';
import type { ApplyOptions, UniqueClash } from './sink-write.ts';
import { writeHoles } from './sink-storage.ts';
import { waitingName } from './sink-waiting.ts';
import { holdLease } from './state.ts';
import type { CheckpointDocument } from './state-database.ts';

/** What the parts of a sink share: one connected client under one term. */
export class SinkStream {
  readonly client: MongoClient;
  readonly db: Db;
  readonly migration: string;
  /** `<migration>/<direction>`. */
  readonly id: string;
  readonly term: number;
  readonly keepTimestamps: boolean;
  readonly log: Logger;
  /** Groups that needed the exact fallback. */
  fallbacks = 0;

  constructor(parts: {
    readonly client: MongoClient;
    readonly db: Db;
    readonly migration: string;
    readonly id: string;
    readonly term: number;
    readonly keepTimestamps: boolean;
    readonly log: Logger;
  }) {
    this.client = parts.client;
    this.db = parts.db;
    this.migration = parts.migration;
    this.id = parts.id;
    this.term = parts.term;
    this.keepTimestamps = parts.keepTimestamps;
    this.log = parts.log;
  }

  /** @throws VerdigrisError SINK_FENCED */
  async holdLease(session: ClientSession): Promise<void> {
    if (!(await holdLease(this.db, session, this.migration, this.term))) throw this.fenced();
  }

  /** First statement of a transaction that is no group: whoever claims the checkpoint meanwhile makes it fail. @throws VerdigrisError SINK_FENCED */
  async holdCheckpoint(session: ClientSession): Promise<void> {
    const { matchedCount } = await this.db
      .collection<CheckpointDocument>('checkpoint')
      .updateOne({ _id: this.id, term: this.term }, { $inc: { touched: 1 } }, { session });
    if (matchedCount !== 1) throw this.fenced();
  }

  fenced(): VerdigrisError {
    return new VerdigrisError('SINK_FENCED', `Another term or checkpoint stands on the sink of ${this.id}.`, {
      context: { term: this.term },
    });
  }

  writeHoles(session: ClientSession, changes: HoleChanges): Promise<void> {
    return writeHoles(this.db, session, this.id, changes);
  }

  applying(session: ClientSession): Omit<ApplyOptions, 'lenient' | 'exact' | 'spend'> {
    return {
      ...this.reading(),
      session,
      keepTimestamps: this.keepTimestamps,
      shadow: { db: this.db, name: SHADOW },
    };
  }

  reading(): Pick<ApplyOptions, 'client' | 'waiting'> {
    return {
      client: this.client,
      waiting: (table) => ({ db: this.db, name: waitingName(this.id, table) }),
    };
  }

  /** Another try with that table put together first; false when that was tried. */
  tryExactly(exact: Set<string>, { table }: UniqueClash): boolean {
    if (exact.has(tableId(table))) return false;
    exact.add(tableId(table));
    this.fallbacks += 1;
    return true;
  }

  async guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, 'sink');
    }
  }
}

/** See {@link ApplyOptions.shadow}; empty but inside of transactions. */
const SHADOW = 'shadow';
