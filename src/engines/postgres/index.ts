import { z } from 'zod';
import type { Engine } from '../../core/engine.ts';
import { MIGRATION } from './bench/names.ts';
import { openSides } from './bench/sides.ts';
import { parseConfig, schema, withoutNames, type PostgresConfig } from './config.ts';
import { positions } from './position.ts';
import { connectSession } from './session.ts';

/** PostgreSQL 14 and newer, as source and as sink. */
export const engine: Engine = {
  name: 'postgres',
  capabilities: { rawCopy: true, marksWhileFenced: true, transactionalSchema: true, arrayElements: true },
  positions,
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  bench: {
    migration: MIGRATION,
    withoutNames: (config) => withoutNames(config as PostgresConfig),
    open: openSides,
  },
  connect: (config, env) => connectSession(config as PostgresConfig, env),
};
