import { z } from 'zod';
import type { Engine } from '../../core/engine.ts';
import { rawFits } from './bulk.ts';
import { parseConfig, schema, type MysqlConfig } from './config.ts';
import { positions } from './position.ts';
import { connectSession } from './session.ts';

/** MySQL 8.0 and newer and MariaDB 10.11 and newer, as source and as sink. */
export const engine: Engine = {
  name: 'mysql',
  capabilities: { rawCopy: true, rawFits, marksWhileFenced: true, transactionalSchema: false },
  positions,
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  connect: (config, env) => connectSession(config as MysqlConfig, env),
};
