import type { BenchTable } from '../core/bench.ts';
import { VerdigrisError } from '../core/errors.ts';
import { showTable } from '../core/table.ts';
import { configSchema, type Config } from '../app/config.ts';
import { addressed, engineOf } from '../app/introspect.ts';
import type { LoadedConfig } from '../app/load.ts';
import { collectSecrets } from '../app/redact.ts';

/** A configuration of defaults for two addresses, without a file. @throws VerdigrisError USAGE */
export async function configurationOf(blue: string, green: string): Promise<LoadedConfig> {
  const name = await engineOf(blue);
  if (name === null) throw new VerdigrisError('USAGE', 'the address of --blue is that of no engine');
  const left = await addressed(name, blue);
  const right = await addressed(name, green);
  const config = configSchema.parse({
    version: 1,
    migration: 'bench',
    blue: { engine: name, url: blue },
    green: { engine: name, url: green },
    // Of no run: `throwaway` puts the tables of the bench there.
    tables: [{ from: 'bench.none' }],
  });
  return {
    file: '',
    shownFile: '',
    config,
    engine: left.engine,
    blue: { config: left.config, stateSchema: config.blue.state_schema },
    green: { config: right.config, stateSchema: config.green.state_schema },
    proxies: [],
    origins: new Map(),
    secrets: collectSecrets({ blue, green }),
    warnings: [],
    locate: () => null,
  };
}

export interface ThrowawayOptions {
  readonly migration: string;
  readonly stateSchema: string;
  readonly tables: readonly BenchTable[];
  /** What the engine made of each side's own configuration. */
  readonly blue: unknown;
  readonly green: unknown;
}

/**
 * The run that is measured: everything as the user's configuration says, but for the tables, the names, and what belongs to a switch.
 * Nothing is verified behind the copy: the bench compares both sides itself.
 */
export function throwaway(loaded: LoadedConfig, options: ThrowawayOptions): LoadedConfig {
  const { migration, stateSchema, tables } = options;
  const { schema_file: _, ...green } = loaded.config.green;
  const config: Config = {
    ...loaded.config,
    migration,
    blue: { ...loaded.config.blue, state_schema: stateSchema },
    green: { ...green, state_schema: stateSchema },
    tables: configSchema.shape.tables.parse(
      tables.map(({ from, to }) => ({ from: showTable(from), to: [{ table: showTable(to) }] })),
    ),
    verify: { ...loaded.config.verify, after_copy: 'off', continuous: null },
    cutover: { ...loaded.config.cutover, proxies: [], smoke: [], windows: [] },
  };
  return {
    ...loaded,
    config,
    blue: { config: options.blue, stateSchema },
    green: { config: options.green, stateSchema },
    proxies: [],
  };
}
