import { z } from 'zod';
import type { ProxyFactory } from '../../core/proxy.ts';
import { CommandProxy } from './adapter.ts';
import { parseConfig, schema, type CommandConfig } from './config.ts';

export const proxy: ProxyFactory = {
  name: 'command',
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  create: (config, env) => new CommandProxy(config as CommandConfig, env),
};
