import { z } from 'zod';
import type { ProxyFactory } from '../../core/proxy.ts';
import { HaproxyProxy } from './adapter.ts';
import { parseConfig, schema, type HaproxyConfig } from './config.ts';

export const proxy: ProxyFactory = {
  name: 'haproxy',
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  create: (config, env) => new HaproxyProxy(config as HaproxyConfig, env),
};
