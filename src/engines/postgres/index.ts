import { z } from 'zod';
import type { Engine } from '../../core/engine.ts';
import { parseConfig, schema, type PostgresConfig } from './config.ts';
import { positions } from './position.ts';
import { connectSession } from './session.ts';

/** PostgreSQL 14 and newer, as source and as sink. */
export const engine: Engine = {
  name: 'postgres',
  capabilities: { rawCopy: true, marksWhileFenced: true, transactionalSchema: true, arrayElements: true },
  positions,
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  connect: (config, env) => connectSession(config as PostgresConfig, env),
};
