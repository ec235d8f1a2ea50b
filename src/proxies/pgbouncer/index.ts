import { z } from 'zod';
import type { ProxyFactory } from '../../core/proxy.ts';
import { PgBouncerProxy } from './adapter.ts';
import { parseConfig, schema, type PgBouncerConfig } from './config.ts';

export const proxy: ProxyFactory = {
  name: 'pgbouncer',
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  create: (config, env) => new PgBouncerProxy(config as PgBouncerConfig, env),
};
