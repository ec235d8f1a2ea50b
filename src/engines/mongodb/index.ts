import { z } from 'zod';
import type { Engine } from '../../core/engine.ts';
import { parseConfig, schema, type MongoConfig } from './config.ts';
import { positions } from './position.ts';
import { connectSession } from './session.ts';

/** Replica sets of MongoDB, as source and as sink. */
export const engine: Engine = {
  name: 'mongodb',
  capabilities: { rawCopy: true, marksWhileFenced: true, transactionalSchema: true },
  positions,
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  connect: (config, env) => connectSession(config as MongoConfig, env),
};
