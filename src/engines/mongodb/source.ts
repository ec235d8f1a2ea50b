import type { Document, MongoClient } from 'mongodb';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeSource, ChangeStream, ImageChange, SourceHealth } from '../../core/source.ts';
import { showTable, tableId, type Relation, type TableName } from '../../core/table.ts';
import { parseDuration } from '../../core/units.ts';
import { collectionInfo, keepsImages } from './catalog.ts';
import { clusterId, endOfLog, isRouter, outcomesKnown, writtenAt } from './cluster.ts';
import type { MongoConfig } from './config.ts';
import { appName, connect } from './connect.ts';
import { IN_TRANSACTION, currentOperations } from './current-op.ts';
import { translate } from './errors.ts';
import { readLog, type Log } from './log.ts';
import { formatPosition, parsePosition, showTime, type Place } from './position.ts';
import { dropStateIfEmpty, forgetSide, noteSide, prepareState } from './state-database.ts';
import { MongoChangeStream } from './stream.ts';
import { Assembler } from './stream-assembler.ts';

/** Marks are removed in lots. */
const MARKS_KEPT = 500;

interface MarkDocument {
  readonly _id: string;
  readonly migration: string;
  readonly label: string;
}

export interface SourceParts {
  readonly config: MongoConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
  readonly client: MongoClient;
}

/** How long what a router's shards said of their logs counts: each is asked over a connection of its own. */
const LOG_KNOWN_MS = 60_000;

/** Reads the log of one replica set, or of all shards of a cluster through its router. */
export class MongoSource implements ChangeSource {
  readonly #parts: SourceParts;
  #relations: readonly Relation[] = [];
  #set: string | null = null;
  #acknowledged: Position | null = null;
  #marks = 0;
  #shardLogs: { readonly at: number; readonly log: Log | VerdigrisError } | null = null;

  constructor(parts: SourceParts) {
    this.#parts = parts;
  }

  /** Nothing is made on the server but the collection for marks: the log is there. */
  prepare(tables: readonly Relation[]): Promise<Position> {
    return this.#guarded(async () => {
      this.#relations = tables;
      await prepareState(this.#state);
      await noteSide(this.#state, this.#parts.env.migration, this.#parts.env.side);
      return this.#writeMark('prepare');
    });
  }

  check(checkpoint: Position, tables: readonly Relation[]): Promise<void> {
    return this.#guarded(async () => {
      this.#relations = tables;
      const { client } = this.#parts;
      const place = parsePosition(checkpoint);
      const here = await this.#cluster();
      if (place.set !== here) {
        throw new VerdigrisError(
          'SOURCE_OTHER_SYSTEM',
          'The checkpoint belongs to another replica set or cluster.',
          { context: { checkpoint: place.set, here } },
        );
      }
      await this.#checkLog(place);
      for (const { table, version } of tables) {
        const info = await collectionInfo(client, table);
        if (info?.uuid !== version) {
          throw new VerdigrisError(
            'SCHEMA_CHANGED',
            `${showTable(table)} ${info === null ? 'is gone' : 'was dropped and made again'}.`,
            { context: { table: showTable(table) } },
          );
        }
      }
      this.#acknowledged = checkpoint;
    });
  }

  async open(from: Position, signal: AbortSignal): Promise<ChangeStream> {
    signal.throwIfAborted();
    return this.#guarded(async () => {
      const { config, env, options } = this.#parts;
      const place = parsePosition(from);
      const sharded = await isRouter(this.#parts.client);
      const client = await connect(config, {
        appName: appName(env.migration, `stream ${options.direction}`, options.term),
        connections: 2,
      });
      try {
        const stream = await MongoChangeStream.open({
          client,
          from: place,
          assembler: new Assembler({
            relations: new Map(this.#relations.map((relation) => [tableId(relation.table), relation])),
            stateDatabase: env.stateSchema,
            migration: env.migration,
            from: place,
            maxBatchBytes: options.maxBatchBytes,
            sharded,
          }),
          match: wanted(this.#relations, env.stateSchema, env.migration),
          sharded,
          images: this.#relations.some(({ identity }) => identity === 'full'),
          signal,
          onAck: (durable) => {
            this.#acknowledged = durable;
          },
        });
        return stream;
      } catch (error) {
        await client.close();
        throw error;
      }
    });
  }

  head(): Promise<Position> {
    return this.#guarded(async () => {
      const { client } = this.#parts;
      return formatPosition({ time: await endOfLog(client), set: await this.#cluster(), token: null });
    });
  }

  mark(label: string): Promise<Position> {
    return this.#guarded(() => this.#writeMark(label));
  }

  clock(): Promise<number> {
    return this.#guarded(async () => {
      const hello = await this.#parts.client.db('admin').command({ hello: 1 });
      return (hello['localTime'] as Date).getTime();
    });
  }

  /** Our user passes the block of user writes, so it may be done while the side is fenced. */
  fullImages(tables: readonly TableName[]): Promise<readonly ImageChange[]> {
    return this.#guarded(async () => {
      const changed: ImageChange[] = [];
      for (const table of tables) {
        const info = await collectionInfo(this.#parts.client, table);
        if (info === null || keepsImages(info)) continue;
        await this.#keepImages(table, true);
        changed.push({ table, before: JSON.stringify({ enabled: false }) });
      }
      return changed;
    });
  }

  restoreImages(changes: readonly ImageChange[]): Promise<void> {
    return this.#guarded(async () => {
      for (const { table } of changes) {
        const info = await collectionInfo(this.#parts.client, table);
        if (info !== null && keepsImages(info)) await this.#keepImages(table, false);
      }
    });
  }

  async #keepImages({ schema, name }: TableName, enabled: boolean): Promise<void> {
    await this.#parts.client
      .db(schema)
      .command({ collMod: name, changeStreamPreAndPostImages: { enabled }, writeConcern: { w: 'majority' } });
  }

  /** The log is kept by size and age: how much of it is left behind our position is the distance to its loss. */
  health(): Promise<SourceHealth> {
    return this.#guarded(async () => {
      const { client, config } = this.#parts;
      const oldestTransactionSeconds = await oldestTransaction(client);
      const base = { retainedBytes: null, limitBytes: null, oldestTransactionSeconds };
      const log = await this.#log();
      if (log instanceof VerdigrisError) return { ...base, state: 'unknown', ok: true, detail: log.message };
      const { first, last, full } = log;
      const at = this.#acknowledged === null ? last : parsePosition(this.#acknowledged).time;
      const left = Number((at >> 32n) - (first >> 32n));
      const window = Number((last >> 32n) - (first >> 32n));
      const least = (parseDuration(config.limits.min_oplog_window) as number) / 1_000;
      // A young log has not begun to forget.
      const short = full && left < least;
      const lost = at < first;
      return {
        ...base,
        state: lost ? 'lost' : short ? 'short' : 'kept',
        ok: !lost && !short,
        detail: `the log holds ${window} s; ${left} s of it are before our position`,
      };
    });
  }

  retire(): Promise<void> {
    return this.#guarded(async () => {
      const { migration } = this.#parts.env;
      await this.#state.collection<MarkDocument>('marks').deleteMany({ migration });
      await forgetSide(this.#state, migration);
      await dropStateIfEmpty(this.#state);
    });
  }

  get #state() {
    return this.#parts.client.db(this.#parts.env.stateSchema);
  }

  /** @throws VerdigrisError SOURCE_POSITION_LOST, SOURCE_TIMELINE */
  async #checkLog(place: Place): Promise<void> {
    const log = await this.#log(0);
    // Then the server tells when the stream is opened.
    if (log instanceof VerdigrisError) return;
    const { first, last } = log;
    if (place.time < first) {
      throw new VerdigrisError(
        'SOURCE_POSITION_LOST',
        `The log begins at ${showTime(first)}, after our checkpoint ${showTime(place.time)}.`,
      );
    }
    if (last < place.time) {
      throw new VerdigrisError(
        'SOURCE_TIMELINE',
        `The log ends at ${showTime(last)}, before our checkpoint ${showTime(place.time)}: commits that green has are gone.`,
      );
    }
  }

  /** An error: it cannot be measured, which is not tried again. @param oldMs how old an answer may be */
  async #log(oldMs = LOG_KNOWN_MS): Promise<Log | VerdigrisError> {
    const { client, config } = this.#parts;
    if (!(await isRouter(client))) return readLog(client, config);
    const known = this.#shardLogs;
    if (known?.log instanceof VerdigrisError) return known.log;
    if (known !== null && performance.now() - known.at < oldMs) return known.log;
    const log = await readLog(client, config).catch((error: unknown) => translate(error, 'source'));
    this.#shardLogs = { at: performance.now(), log };
    return log;
  }

  /** A document of its own for each mark: the event then brings the label. */
  async #writeMark(label: string): Promise<Position> {
    const { client, env } = this.#parts;
    await outcomesKnown(client);
    const _id = `${env.migration} ${label}`;
    const reply = await this.#state.command({
      insert: 'marks',
      documents: [{ _id: `${_id} ${process.hrtime.bigint()}`, migration: env.migration, label }],
      writeConcern: { w: 'majority', j: true },
    });
    this.#marks += 1;
    if (this.#marks % MARKS_KEPT === 0) await this.#forgetMarks();
    const failed = (reply['writeErrors'] as readonly Document[] | undefined)?.[0];
    if (failed !== undefined)
      throw new VerdigrisError('SOURCE_FAILED', `A mark was refused (code ${String(failed['code'])}).`);
    const time = await writtenAt(client, reply);
    return formatPosition({ time, set: await this.#cluster(), token: null });
  }

  async #forgetMarks(): Promise<void> {
    const { migration } = this.#parts.env;
    await this.#state.collection<MarkDocument>('marks').deleteMany({ migration });
  }

  async #cluster(): Promise<string> {
    this.#set ??= await clusterId(this.#parts.client);
    return this.#set;
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, 'source');
    }
  }
}

async function oldestTransaction(client: MongoClient): Promise<number | null> {
  const open = await currentOperations(
    client,
    { allUsers: true },
    { ...IN_TRANSACTION, appName: { $not: /^verdigris:/ } },
  );
  const ages = open.map((one) => Number((one['transaction'] as Document)['timeOpenMicros'] ?? 0) / 1e6);
  return ages.length === 0 ? null : Math.max(...ages);
}

/** Events of the mapped collections, what happens to their databases, our marks, the record of our fence, and what tells our own transactions. */
function wanted(relations: readonly Relation[], state: string, migration: string): Document {
  const databases = Map.groupBy(
    relations.map(({ table }) => table),
    (table) => table.schema,
  );
  const tables = [...databases].flatMap(([db, list]) => {
    const names = list.map(({ name }) => name);
    return [
      { 'ns.db': db, 'ns.coll': { $in: names } },
      { 'to.db': db, 'to.coll': { $in: names } },
    ];
  });
  return {
    $or: [
      ...tables,
      { operationType: { $in: ['dropDatabase', 'invalidate'] } },
      { 'ns.db': state, 'ns.coll': 'marks', operationType: 'insert' },
      { 'ns.db': state, 'ns.coll': 'fence', 'documentKey._id': migration },
      { 'ns.db': state, 'ns.coll': { $in: ['checkpoint', 'ranges'] } },
    ],
  };
}
