import { z } from 'zod';
import type { ProxyFactory } from '../../core/proxy.ts';
import { MemoryProxy, MemoryProxyState } from './adapter.ts';

const schema = z.strictObject({
  name: z.string().min(1).default('memory').describe('Entries of the same name are the same proxy.'),
});

/** By name, so that a second adapter (another engine, a restart) meets the same proxy. */
const proxies = new Map<string, MemoryProxyState>();

/** The state behind the adapters of that name. */
export function memoryProxy(name: string): MemoryProxyState {
  const state = proxies.get(name) ?? new MemoryProxyState();
  proxies.set(name, state);
  return state;
}

/** Holds and routes nothing real: only for tests of the cutover's logic. */
export const proxy: ProxyFactory = {
  name: 'memory',
  parseConfig: (input) => {
    const result = schema.safeParse(input);
    return result.success
      ? { config: result.data }
      : {
          issues: result.error.issues.map((issue) => ({
            path: issue.path as (string | number)[],
            message: issue.message,
          })),
        };
  },
  jsonSchema: () => z.toJSONSchema(schema, { io: 'input' }),
  create: (config, env) => {
    const { name } = config as z.output<typeof schema>;
    return new MemoryProxy(name, memoryProxy(name), env.failpoints);
  },
};
