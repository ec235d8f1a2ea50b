import { z } from 'zod';
import type { ProxyFactory } from '../../core/proxy.ts';
import { TemplateProxy } from './adapter.ts';
import { parseConfig, schema, type TemplateConfig } from './config.ts';

export const proxy: ProxyFactory = {
  name: 'template',
  parseConfig,
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  create: (config, env) => new TemplateProxy(config as TemplateConfig, env),
};
