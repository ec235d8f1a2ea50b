import { loadConfig } from '../../../src/app/load.ts';
import type { Session } from '../../../src/core/engine.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { Position } from '../../../src/core/position.ts';
import type { Sink } from '../../../src/core/sink.ts';
import type { ChangeSource } from '../../../src/core/source.ts';
import { showTable, tableId, type Relation, type TableName } from '../../../src/core/table.ts';
import { SYSTEM_CLOCK } from '../../../src/core/clock.ts';
import { engine } from '../../../src/engines/postgres/index.ts';
import { Pipeline, type PipelineState } from '../../../src/pipeline/pipeline.ts';
import { compileMapping, mappedTables } from '../../../src/transform/compile.ts';
import { compileReverse, type ReverseMapping } from '../../../src/transform/reverse.ts';
import type { Run } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';

/**
 * The way back of a run without an orchestrator: the sides exchanged, the mapping read backwards. To be opened when the way there has
 * arrived and its engine is stopped; from then on green is open for writes.
 */
export class WayBack implements AsyncDisposable {
  readonly back: ReverseMapping;
  readonly pipeline: Pipeline;
  readonly states: PipelineState[] = [];
  readonly #parts: Parts;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #marks = 0;

  private constructor(parts: Parts, back: ReverseMapping) {
    this.#parts = parts;
    this.back = back;
    const { source, sink, green } = parts;
    this.pipeline = new Pipeline({
      source,
      sink,
      snapshot: green.snapshot(),
      positions: engine.positions,
      rawCopy: false,
      copied: true,
      plans: back.plans,
      units: back.units,
      settings: {
        groupBytes: 4 << 20,
        groupRows: 20_000,
        windowBytes: 64 << 20,
        idleCheckpointMs: 1_000,
        visibilityTimeoutMs: 10_000,
        rejectsStopAfter: Number.POSITIVE_INFINITY,
        workers: 1,
        chunkRows: 10_000,
        maxRowsPerSecond: null,
        heartbeatMs: 200,
      },
      clock: SYSTEM_CLOCK,
      failpoints: NO_FAILPOINTS,
      log: SILENT,
      holder: `${parts.migration}:back`,
      copyPermit: () => Promise.resolve(),
      onState: (state) => this.states.push(state),
    });
    this.#running = parts.ready(this.pipeline).then(() => this.pipeline.run(this.#stop.signal));
    this.#running.catch(() => undefined);
  }

  static async open(run: Run): Promise<WayBack> {
    const { spec } = await mappingOf(run);
    // A run of its own: the engine of the way there keeps what it has prepared for its way back.
    const migration = `${run.name}b`;
    const env = (side: 'blue' | 'green', of: string) => ({
      migration: of,
      side,
      stateSchema: 'verdigris',
      log: SILENT,
      failpoints: NO_FAILPOINTS,
    });
    const connect = async (side: 'blue' | 'green', of = migration): Promise<Session> => {
      const parsed = engine.parseConfig({ url: run[side].url });
      if (!('config' in parsed)) throw new Error(JSON.stringify(parsed.issues));
      return await engine.connect(parsed.config, env(side, of));
    };
    const stack = new AsyncDisposableStack();
    const blue = stack.use(await connect('blue'));
    const green = stack.use(await connect('green'));
    const tables = mappedTables(spec, await blue.catalog.tables());
    const options = {
      sources: await layouts(tables.source, (table) => blue.catalog.source(table)),
      targets: await layouts(tables.target, (table) => green.catalog.target(table)),
      blueTargets: await layouts(tables.source, (table) => blue.catalog.target(table)),
    };
    const compiled = compileMapping({
      spec,
      modules: new Map(),
      tables: await blue.catalog.tables(),
      source: (table) => options.sources.get(tableId(table)) ?? null,
      target: (table) => options.targets.get(tableId(table)) ?? null,
    });
    const reverse = async (): Promise<ReverseMapping> => {
      const greenSources = await layouts(tables.target, (table) => green.catalog.source(table));
      return compileReverse({
        compiled,
        spec,
        modules: new Map(),
        blueTarget: (table) => options.blueTargets.get(tableId(table)) ?? null,
        greenSource: (table) => greenSources.get(tableId(table)) ?? null,
        elements: true,
        misfits: 'keep',
      });
    };
    for (const { table } of (await reverse()).needsFullImages)
      await run.green.query(`ALTER TABLE ${showTable(table)} REPLICA IDENTITY FULL`);
    const back = await reverse();
    if (back.impossible.length > 0 || back.needsFullImages.length > 0)
      throw new Error(JSON.stringify([back.impossible, back.needsFullImages]));

    {
      await using fenced = await connect('green', run.name);
      const fence = fenced.fence(tables.target);
      await fence.open((await fence.state()).epoch);
    }
    await blue.state.prepare();
    const term = await blue.state.acquire(migration, 'back', { ttlMs: 600_000, takeover: false });
    const stream = { direction: 'reverse', term, maxBatchBytes: 4 << 20 } as const;
    const source = green.changes(stream);
    const sink = blue.sink(stream);
    stack.use(sink);
    const relations = back.plans.map((plan) => plan.from);
    const ready = async (pipeline: Pipeline): Promise<void> => {
      const start = await source.prepare(relations);
      await sink.prepare(back.targets);
      await sink.begin(start);
      await pipeline.defineRanges();
    };
    const way = new WayBack({ migration, stack, green, source, sink, ready }, back);
    await Promise.race([way.pipeline.opened, way.#running]);
    return way;
  }

  get migration(): string {
    return this.#parts.migration;
  }

  /** Everything that was committed on green before the call is on blue. */
  async settled(timeoutMs = 60_000): Promise<Position> {
    this.#marks += 1;
    const to = await this.#parts.source.mark(`${this.#parts.migration}:back:${this.#marks}`);
    const stopped = this.#running.then(() => Promise.reject(new Error('the way back has ended')));
    stopped.catch(() => undefined);
    return await Promise.race([this.pipeline.drain(to, AbortSignal.timeout(timeoutMs)), stopped]);
  }

  /** The stream stopped for the operator. */
  async blocked(): Promise<void> {
    await waitFor(() => Promise.resolve(this.pipeline.fit.blocked), { what: 'the way back to stop' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('closed'));
    await this.#running.catch(() => undefined);
    await this.#parts.source.retire();
    await this.#parts.stack[Symbol.asyncDispose]();
  }
}

interface Parts {
  readonly migration: string;
  readonly stack: AsyncDisposableStack;
  readonly green: Session;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly ready: (pipeline: Pipeline) => Promise<void>;
}

async function mappingOf(run: Run) {
  const { config } = await loadConfig(run.file);
  return { spec: config.tables };
}

async function layouts(
  tables: readonly TableName[],
  read: (table: TableName) => Promise<Relation>,
): Promise<Map<string, Relation>> {
  const found = new Map<string, Relation>();
  for (const table of tables) found.set(tableId(table), await read(table));
  return found;
}
