import type pg from 'pg';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeSource, ChangeStream, ImageChange, SourceHealth } from '../../core/source.ts';
import type { Relation, TableName } from '../../core/table.ts';
import { parseSize } from '../../core/units.ts';
import type { PostgresConfig } from './config.ts';
import { clientConfig, connect, statementTimeout } from './connect.ts';
import { translate } from './errors.ts';
import { readHealth } from './health.ts';
import { parseLsn, positionOf } from './position.ts';
import { QueryClient } from './source-client.ts';
import { restoreImages, setFullImages } from './source-images.ts';
import { MARK_PREFIX, markContent } from './source-mark.ts';
import { publicationName, slotName, streamApplicationPrefix } from './source-names.ts';
import {
  checkSlot,
  checkTimeline,
  createPublication,
  createSlot,
  formatTypes,
  HEAD,
  publicationDifference,
  readFacts,
  serverVersion,
  writeIdentity,
  type ServerFacts,
} from './source-objects.ts';
import { freeSlot } from './source-holder.ts';
import { Spool } from './spool.ts';
import { ident } from './sql.ts';
import { PostgresStream } from './stream.ts';
import { RelationMap } from './stream-relations.ts';
import { SLOT_COPY_SETTINGS } from './stream-slot-copy.ts';

export interface SourceParts {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
  /** The layout of a table as the catalog has it now. @throws VerdigrisError SCHEMA_TABLE_MISSING */
  readonly describe: (table: TableName) => Promise<Relation>;
  /** Least time between two idle batches; default 10 s. */
  readonly idleIntervalMs?: number;
  /** Time between two looks at slot and publication; default 5 s. */
  readonly pollIntervalMs?: number;
  /** Bytes of log behind which a stream begins as a backlog; default 16 MiB. */
  readonly backlogBytes?: number;
}

/** The log of one PostgreSQL database. Dispose of it to end its query connection; an open stream is disposed of by its user. */
export function createSource(parts: SourceParts): ChangeSource & AsyncDisposable {
  return new PostgresSource(parts);
}

/** How often an attempt to open the stream frees the slot from a connection of ours that died without the server noticing. */
const FREE_ATTEMPTS = 3;

const BACKLOG_BYTES = 16 << 20;

class PostgresSource implements ChangeSource, AsyncDisposable {
  readonly #parts: SourceParts;
  readonly #slot: string;
  readonly #publication: string;
  readonly #application: string;
  readonly #queries: QueryClient;
  #version: number | null = null;
  #tables: readonly Relation[] | null = null;

  constructor(parts: SourceParts) {
    const { config, env, options } = parts;
    this.#parts = parts;
    this.#slot = slotName(config, env.migration, options);
    this.#publication = publicationName(config, env.migration, options);
    this.#application = streamApplicationPrefix(env.migration, options);
    this.#queries = new QueryClient(config, {
      applicationName: `${this.#application}${options.term}:source`,
      // A mark must not wait for a synchronous standby; being flushed here is what makes it readable.
      settings: { synchronous_commit: 'local' },
    });
  }

  async prepare(tables: readonly Relation[]): Promise<Position> {
    this.#tables = tables;
    const { config, env } = this.#parts;
    if (tables.length === 0) throw new VerdigrisError('INTERNAL', 'A source without tables.');
    const names = tables.map((relation) => relation.table);
    const facts = await this.#facts();
    const { publication, slot } = facts;
    if (publication !== null) this.#checkPublication(facts, names);
    else if (slot !== null) {
      throw new VerdigrisError(
        'SOURCE_PUBLICATION_CHANGED',
        `The replication slot ${this.#slot} stands there without its publication ${this.#publication}: it is left from an earlier run.`,
        { remedy: `Drop the slot when nothing uses it: SELECT pg_drop_replication_slot('${this.#slot}')` },
      );
    }
    // The statement waits for every transaction open in the cluster, so it gets the long time-out.
    const client = await this.#connectLong();
    try {
      const version = await serverVersion(client);
      if (config.replication.failover_slot === 'on' && version < 170_000) {
        throw new VerdigrisError(
          'CONFIG_INVALID',
          'replication.failover_slot is on, which needs PostgreSQL 17 or newer.',
        );
      }
      if (publication === null) {
        const { system, timeline } = await this.#identify();
        await createPublication(client, this.#publication, {
          tables: names,
          identity: { migration: env.migration, direction: this.#parts.options.direction, system, timeline },
        });
      }
      await env.failpoints.hit('source.prepare.publication');
      if (slot !== null) {
        await this.#checkOwner(slot);
        checkSlot(slot, this.#slot, null);
        return slot.confirmed as Position;
      }
      const start = await createSlot(
        client,
        this.#slot,
        version >= 170_000 && config.replication.failover_slot !== 'off',
      );
      await env.failpoints.hit('source.prepare.slot');
      return start;
    } catch (error) {
      throw translate(error, 'source', { slot: this.#slot, publication: this.#publication });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async check(checkpoint: Position, tables: readonly Relation[]): Promise<void> {
    this.#tables = tables;
    // Two connections at once: clients may be waiting for this.
    const [facts, node] = await Promise.all([this.#facts(), this.#identify()]);
    this.#checkSystem(facts);
    checkSlot(facts.slot, this.#slot, checkpoint);
    await this.#checkOwner(facts.slot);
    this.#checkPublication(
      facts,
      tables.map((relation) => relation.table),
    );
    const identity = facts.publication?.identity;
    if (identity === null || identity === undefined) return;
    const { system, timeline, history } =
      node.timeline > identity.timeline ? await this.#identify(identity.timeline) : node;
    if (system !== identity.system) this.#refuseSystem(identity.system, system);
    checkTimeline(history, { accepted: identity.timeline, now: timeline, checkpoint });
    if (timeline !== identity.timeline) {
      await this.#queries.run((client) =>
        writeIdentity(client, this.#publication, { ...identity, timeline }),
      );
    }
  }

  async open(from: Position, signal: AbortSignal): Promise<ChangeStream> {
    const { config, env, options, describe } = this.#parts;
    signal.throwIfAborted();
    await this.#inspect(from);
    const applicationName = `${this.#application}${options.term}`;
    const client = await clientConfig(config, { applicationName, replication: true });
    const backlogBytes = this.#parts.backlogBytes ?? BACKLOG_BYTES;
    const { backlog: reader } = config.replication;
    const behind = reader === 'copies' && parseLsn(await this.head()) - parseLsn(from) >= backlogBytes;
    const backlog = behind
      ? await clientConfig(config, { applicationName, settings: SLOT_COPY_SETTINGS })
      : null;
    for (let attempt = 1; ; attempt++) {
      const stream = new PostgresStream(
        from,
        {
          migration: env.migration,
          direction: options.direction,
          slot: this.#slot,
          publication: this.#publication,
          streaming: config.replication.streaming,
          maxBatchBytes: options.maxBatchBytes,
          queueBytes: Math.max(1 << 20, 2 * options.maxBatchBytes),
          idleIntervalMs: this.#parts.idleIntervalMs ?? 10_000,
          pollIntervalMs: this.#parts.pollIntervalMs ?? 5_000,
          restBytes: backlogBytes / 4,
        },
        {
          clientConfig: client,
          backlogConfig: backlog,
          queries: this.#queries,
          relations: new RelationMap(this.#tables ?? [], {
            describe,
            formatTypes: (types) => this.#queries.run((queries) => formatTypes(queries, types)),
          }),
          spool: new Spool(`${config.url} ${this.#slot}`),
          log: env.log,
          poll: () => this.#inspect(null),
          explain: (error) => this.#explain(error),
        },
        signal,
      );
      try {
        await stream.start();
        return stream;
      } catch (error) {
        const busy = error instanceof VerdigrisError && error.code === 'SOURCE_BUSY';
        if (!busy || attempt >= FREE_ATTEMPTS || !(await this.#free(signal))) throw error;
      }
    }
  }

  async head(): Promise<Position> {
    return positionOf(await this.#text(HEAD));
  }

  async mark(label: string): Promise<Position> {
    const content = markContent(this.#parts.env.migration, label);
    // The end of the message's record: after everything committed before, and before the commit of the mark itself.
    return positionOf(
      await this.#text(`pg_catalog.pg_logical_emit_message(true, '${MARK_PREFIX}', $1)::text`, [content]),
    );
  }

  async clock(): Promise<number> {
    return Math.floor(
      Number(await this.#text(`(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::text`)),
    );
  }

  health(): Promise<SourceHealth> {
    const limit = parseSize(this.#parts.config.limits.max_wal_retained) as number;
    return this.#queries.run((client) => readHealth(client, this.#slot, limit));
  }

  fullImages(tables: readonly TableName[]): Promise<readonly ImageChange[]> {
    return this.#queries.run((client) => setFullImages(client, tables));
  }

  restoreImages(changes: readonly ImageChange[]): Promise<void> {
    return this.#queries.run((client) => restoreImages(client, changes));
  }

  async retire(): Promise<void> {
    const facts = await this.#facts();
    if (facts.slot !== null) {
      await this.#free(new AbortController().signal);
      await this.#queries.run((client) =>
        client.query(
          `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`,
          [this.#slot],
        ),
      );
    }
    const { publication } = facts;
    if (publication === null) return;
    if (publication.identity?.migration !== this.#parts.env.migration) {
      this.#parts.env.log.warn(
        { publication: this.#publication },
        'a publication that is not ours was left in place',
      );
      return;
    }
    await this.#queries.run((client) =>
      client.query(`DROP PUBLICATION IF EXISTS ${ident(this.#publication)}`),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#queries[Symbol.asyncDispose]();
  }

  async #facts(): Promise<ServerFacts> {
    return await this.#queries.run(async (client) => {
      this.#version ??= await serverVersion(client);
      return await readFacts(client, this.#version, { slot: this.#slot, publication: this.#publication });
    });
  }

  /** Slot and publication as they are now: what can change while we stream. */
  async #inspect(from: Position | null): Promise<void> {
    const facts = await this.#facts();
    this.#checkSystem(facts);
    checkSlot(facts.slot, this.#slot, from);
    const tables = this.#tables?.map((relation) => relation.table) ?? facts.publication?.members ?? [];
    this.#checkPublication(facts, tables);
  }

  #checkSystem(facts: ServerFacts): void {
    const known = facts.publication?.identity?.system;
    if (known !== undefined && known !== facts.system) this.#refuseSystem(known, facts.system);
  }

  #refuseSystem(known: string, system: string): never {
    throw new VerdigrisError(
      'SOURCE_OTHER_SYSTEM',
      `The run began on system ${known}; this is system ${system}.`,
      {
        context: { known, system },
      },
    );
  }

  #checkPublication(facts: ServerFacts, tables: readonly TableName[]): void {
    const { publication } = facts;
    let difference = publication === null ? 'it does not exist' : publicationDifference(publication, tables);
    const owner = publication?.identity;
    if (difference === null && owner?.migration !== this.#parts.env.migration)
      difference = 'it belongs to another migration';
    if (difference === null) return;
    throw new VerdigrisError(
      'SOURCE_PUBLICATION_CHANGED',
      `The publication ${this.#publication} is not as we need it: ${difference}.`,
      {
        context: { publication: this.#publication },
      },
    );
  }

  async #checkOwner(slot: NonNullable<ServerFacts['slot']>): Promise<void> {
    const database = await this.#text('pg_catalog.current_database()::text');
    if (slot.plugin === 'pgoutput' && slot.database === database) return;
    throw new VerdigrisError(
      'SOURCE_FAILED',
      `The replication slot ${this.#slot} is of plugin ${slot.plugin} and database ${slot.database}: it is not ours.`,
      { remedy: 'Choose another name with replication.slot, or drop that slot.' },
    );
  }

  /** System and timeline of the node, and the history of its timeline when it is not `accepted`. */
  async #identify(accepted?: number): Promise<{ system: string; timeline: number; history: string }> {
    const { config, options } = this.#parts;
    const client = await connect(config, {
      applicationName: `${this.#application}${options.term}:identify`,
      replication: true,
    }).catch((error: unknown) => {
      throw translate(error, 'source');
    });
    try {
      const result = await client.query<{ systemid: string; timeline: string }>('IDENTIFY_SYSTEM');
      const row = result.rows[0] as { systemid: string; timeline: string };
      const timeline = Number(row.timeline);
      // The first timeline has no history file, and an older one than accepted does not contain the accepted one.
      if (accepted === undefined || accepted >= timeline)
        return { system: row.systemid, timeline, history: '' };
      const file = await client.query<{ content: string }>(`TIMELINE_HISTORY ${timeline}`);
      return { system: row.systemid, timeline, history: file.rows[0]?.content ?? '' };
    } catch (error) {
      throw translate(error, 'source');
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Finds the fact behind an error of the walsender: its text alone does not say whether a slot is missing or its log is gone. */
  async #explain(error: unknown): Promise<VerdigrisError> {
    const translated = translate(error, 'source', { slot: this.#slot, publication: this.#publication });
    if (translated.code !== 'SOURCE_FAILED') return translated;
    try {
      await this.#inspect(null);
    } catch (found) {
      if (found instanceof VerdigrisError && found.directive === 'fatal') return found;
    }
    const removed =
      translated.context['sqlstate'] === '58P01' ||
      /can no longer (get changes|access)|has already been removed/.test(translated.message);
    return removed
      ? new VerdigrisError('SOURCE_POSITION_LOST', translated.message, { context: translated.context })
      : translated;
  }

  #free(signal: AbortSignal): Promise<boolean> {
    return freeSlot(
      this.#queries,
      { slot: this.#slot, prefix: this.#application, term: this.#parts.options.term },
      signal,
    );
  }

  async #connectLong(): Promise<pg.Client> {
    const { config, options } = this.#parts;
    try {
      return await connect(config, {
        applicationName: `${this.#application}${options.term}:prepare`,
        statementTimeoutMs: statementTimeout(config),
      });
    } catch (error) {
      throw translate(error, 'source');
    }
  }

  /** One expression as text. */
  async #text(expression: string, values: readonly unknown[] = []): Promise<string> {
    return await this.#queries.run(async (client) => {
      const result = await client.query<{ value: string }>(`SELECT ${expression} AS value`, [...values]);
      return result.rows[0]?.value ?? '';
    });
  }
}
