import { createHash } from 'node:crypto';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeSource, ChangeStream, SourceHealth } from '../../core/source.ts';
import { showTable, type Relation, type TableName } from '../../core/table.ts';
import type { WithLink } from './catalog.ts';
import { readLayout, relationOf } from './catalog-layout.ts';
import { Charsets } from './charsets.ts';
import type { MysqlConfig } from './config.ts';
import { connectionOptions, type Link } from './connect.ts';
import { errnoOf, ERRNO, translate } from './errors.ts';
import { checkLog, executedGtids, readHealth } from './source-log.ts';
import { parseGtids, positionOf } from './position.ts';
import { literal } from './sql.ts';
import { stateTable } from './state-names.ts';
import { prepareState } from './state-tables.ts';
import { Assembler } from './stream-assembler.ts';
import { RelationMap, type ReplicatedTable } from './stream-relations.ts';
import { MysqlStream } from './stream.ts';

export interface SourceParts {
  readonly config: MysqlConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
  readonly withLink: WithLink;
  /** Least time between two idle batches; default 10 s. */
  readonly idleIntervalMs?: number;
}

const HEARTBEAT_MS = 2_000;

/** The binary log of one server, of which only the given tables are read. */
export function createSource(parts: SourceParts): ChangeSource {
  return new MysqlSource(parts);
}

class MysqlSource implements ChangeSource {
  readonly #parts: SourceParts;
  #tables: readonly Relation[] = [];
  #checkpoint: Position | null = null;

  constructor(parts: SourceParts) {
    this.#parts = parts;
  }

  async prepare(tables: readonly Relation[]): Promise<Position> {
    this.#tables = tables;
    return await this.#guarded(async (link) => {
      await checkLog(link, null);
      await prepareState(link, this.#parts.env.stateSchema);
      await this.#parts.env.failpoints.hit('source.prepare.state');
      return positionOf(await executedGtids(link));
    });
  }

  async check(checkpoint: Position, tables: readonly Relation[]): Promise<void> {
    this.#tables = tables;
    this.#checkpoint = checkpoint;
    await this.#guarded((link) => checkLog(link, checkpoint));
  }

  async open(from: Position, signal: AbortSignal): Promise<ChangeStream> {
    const { config, env, options } = this.#parts;
    signal.throwIfAborted();
    this.#checkpoint = from;
    const { tables, charsets, flavour } = await this.#guarded(async (link) => {
      await checkLog(link, from);
      const found: ReplicatedTable[] = [];
      for (const relation of this.#tables) {
        const layout = await readLayout(link, relation.table);
        found.push({ relation, layout });
      }
      const known = new Charsets();
      const named = found.flatMap(({ layout }) => layout.columns.flatMap(({ charset }) => charset ?? []));
      await known.load(link, new Set(named));
      return { tables: found, charsets: known, flavour: link.flavour };
    });
    const changed = tables.find(
      ({ relation, layout }) => relationOf(layout, 'source').version !== relation.version,
    );
    if (changed !== undefined)
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `${showTable(changed.relation.table)}: its layout changed since the mapping was compiled.`,
      );
    const assembler = new Assembler({
      relations: new RelationMap(tables, charsets),
      charsets,
      flavour,
      checksums: () => stream.checksums,
      migration: env.migration,
      stateSchema: env.stateSchema,
      position: parseGtids(from),
      maxBatchBytes: options.maxBatchBytes,
      describe: (table) => this.#describe(table),
    });
    const stream: MysqlStream = new MysqlStream(
      from,
      {
        serverId: config.replication.server_id ?? serverIdOf(env.migration, options.direction),
        queueBytes: Math.max(1 << 20, 2 * options.maxBatchBytes),
        idleIntervalMs: this.#parts.idleIntervalMs ?? 10_000,
        heartbeatMs: HEARTBEAT_MS,
      },
      {
        connection: await connectionOptions(config, {
          name: `verdigris:${env.migration}:stream-${options.direction}:t${options.term}`,
        }),
        assembler,
        log: env.log,
        explain: (error) => this.#explain(error),
      },
      signal,
    );
    await stream.start(from);
    return stream;
  }

  async head(): Promise<Position> {
    return await this.#guarded(async (link) => positionOf(await executedGtids(link)));
  }

  /** One row per stream, written anew: its row event is the mark. */
  async mark(label: string): Promise<Position> {
    const { env, options } = this.#parts;
    return await this.#guarded(async (link) => {
      await link.run(
        `INSERT INTO ${stateTable(env.stateSchema, 'marks')} (id, direction, label) VALUES (${literal(env.migration)}, ${literal(options.direction)}, ${literal(label)})
         ON DUPLICATE KEY UPDATE label = ${literal(label)}, times = times + 1`,
      );
      return positionOf(await executedGtids(link));
    });
  }

  async clock(): Promise<number> {
    const seconds = await this.#guarded((link) => link.value('SELECT UNIX_TIMESTAMP(NOW(6))'));
    return Math.floor(Number(seconds) * 1000);
  }

  health(): Promise<SourceHealth> {
    return this.#guarded((link) => readHealth(link, this.#checkpoint));
  }

  async retire(): Promise<void> {
    const { env, options } = this.#parts;
    await this.#guarded(async (link) => {
      const present = await link.value(
        `SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${literal(env.stateSchema)} AND TABLE_NAME = 'marks'`,
      );
      if (present === null) return;
      await link.run(
        `DELETE FROM ${stateTable(env.stateSchema, 'marks')} WHERE id = ${literal(env.migration)} AND direction = ${literal(options.direction)}`,
      );
    });
  }

  async #describe(table: TableName): Promise<Relation | null> {
    try {
      return await this.#guarded(async (link) => relationOf(await readLayout(link, table), 'source'));
    } catch (error) {
      if (error instanceof VerdigrisError && error.code.startsWith('SCHEMA_')) return null;
      throw error;
    }
  }

  /** 1236 is any refusal of the log's reader: whether the log is gone is looked up. */
  async #explain(error: unknown): Promise<VerdigrisError> {
    const translated = translate(error, 'source');
    if (errnoOf(error) !== ERRNO.CHECKSUM_POSITION_LOST) return translated;
    try {
      await this.#guarded((link) => checkLog(link, this.#checkpoint));
    } catch (found) {
      if (found instanceof VerdigrisError && found.directive === 'fatal') return found;
    }
    const purged = /purged|could not find|missing|not in the (master|source)/i.test(translated.message);
    return new VerdigrisError(purged ? 'SOURCE_POSITION_LOST' : 'SOURCE_BUSY', translated.message, {
      context: translated.context,
    });
  }

  async #guarded<T>(work: (link: Link) => Promise<T>): Promise<T> {
    try {
      return await this.#parts.withLink(work);
    } catch (error) {
      throw translate(error, 'source');
    }
  }
}

/** Above what people number their servers with. The server ends an older reader of the same number, which is ours. */
function serverIdOf(migration: string, direction: string): number {
  const hash = createHash('sha256').update(`${migration} ${direction}`).digest().readUInt32LE(0);
  return 1_000_000_000 + (hash % 3_000_000_000);
}
