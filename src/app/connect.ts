import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { Clock } from '../core/clock.ts';
import type { Side, Session } from '../core/engine.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { Phase } from '../core/state.ts';
import type { Migration } from '../orchestrator/api.ts';
import type { RehearsalSides } from '../orchestrator/rehearsal-sides.ts';
import { createMigration } from '../orchestrator/orchestrator.ts';
import { deadmanStarter } from './deadman.ts';
import type { LoadedConfig } from './load.ts';
import { loadModules } from './modules.ts';
import { settingsOf } from './settings.ts';
import { planConfiguration } from './show.ts';

export interface Surroundings {
  readonly log: Logger;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  /** Take the lease even when another engine's is fresh. */
  readonly takeover?: boolean;
  /** See {@link import('../orchestrator/migration-options.ts').MigrationOptions.onPhase}. */
  readonly onPhase?: ((phase: Phase) => void) | undefined;
}

/** Connects one side. The caller disposes it. */
export function connectSide(
  loaded: LoadedConfig,
  side: Side,
  { log, failpoints }: Surroundings,
): Promise<Session> {
  return loaded.engine.connect(loaded[side].config, {
    migration: loaded.config.migration,
    side,
    stateSchema: loaded[side].stateSchema,
    log: log.child({ side }),
    failpoints,
  });
}

/** Both sides under another name: a migration's name does not end like that by chance, and has at most 40 characters. */
async function connectRehearsal(loaded: LoadedConfig, surroundings: Surroundings): Promise<RehearsalSides> {
  const migration = `${loaded.config.migration}.rehearsal`;
  await using stack = new AsyncDisposableStack();
  const connect = async (side: Side): Promise<Session> =>
    stack.use(
      await loaded.engine.connect(loaded[side].config, {
        migration,
        side,
        stateSchema: loaded[side].stateSchema,
        rehearsal: true,
        log: surroundings.log.child({ side, rehearsal: true }),
        failpoints: surroundings.failpoints,
      }),
    );
  const [blue, green] = [await connect('blue'), await connect('green')];
  const kept = stack.move();
  return { migration, blue, green, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Everything a migration needs, connected. Disposing closes the migration first, then proxies and sessions. */
export interface Assembly extends AsyncDisposable {
  readonly migration: Migration;
  readonly blue: Session;
  readonly green: Session;
  readonly proxies: readonly ProxyAdapter[];
}

/** The composition root: here engine, proxies, mapping and orchestrator meet. */
export async function assemble(loaded: LoadedConfig, surroundings: Surroundings): Promise<Assembly> {
  const { log, clock, failpoints } = surroundings;
  const { config } = loaded;
  await using stack = new AsyncDisposableStack();
  const schemaSql = await readSchemaFile(loaded);
  const modules = await loadModules(config.tables, loaded.file);
  const blue = stack.use(await connectSide(loaded, 'blue', surroundings));
  const green = stack.use(await connectSide(loaded, 'green', surroundings));
  const proxies = loaded.proxies.map(({ factory, config: own }) =>
    stack.use(factory.create(own, { log: log.child({ proxy: factory.name }), failpoints })),
  );
  const migration = await createMigration({
    settings: settingsOf(config, schemaSql),
    mapping: config.tables,
    modules,
    engine: loaded.engine,
    blue,
    green,
    proxies,
    log,
    clock,
    failpoints,
    deadman: deadmanStarter(loaded, { log, failpoints }),
    connectRehearsal: () => connectRehearsal(loaded, surroundings),
    takeover: surroundings.takeover ?? false,
    onPhase: surroundings.onPhase,
    holder: `${hostname()}:${process.pid}`,
    planSalt: {
      configuration: planConfiguration(loaded),
      schemaSql,
      serverVersions: {
        blue: await blue.catalog.serverVersion(),
        green: await green.catalog.serverVersion(),
      },
    },
  });
  stack.defer(() => migration.close());
  const kept = stack.move();
  return { migration, blue, green, proxies, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Green's DDL; null when the configuration names none. @throws VerdigrisError CONFIG_INVALID */
export async function readSchemaFile(loaded: LoadedConfig): Promise<string | null> {
  const name = loaded.config.green.schema_file;
  if (name === undefined) return null;
  const path = resolve(dirname(loaded.file), name);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'error';
    const place = loaded.locate(['green', 'schema_file']);
    const at = place === null ? '' : `${place.file}:${place.line}:${place.column} `;
    throw new VerdigrisError('CONFIG_INVALID', `${at}green.schema_file: ${path} cannot be read (${reason})`);
  }
}
