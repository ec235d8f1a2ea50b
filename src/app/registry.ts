import type { Engine } from '../core/engine.ts';
import type { ProxyFactory } from '../core/proxy.ts';

// The only place that names engines and proxies. Imported on demand: drivers that are not used are never loaded.
const ENGINES: Readonly<Record<string, () => Promise<{ readonly engine: Engine }>>> = {
  mongodb: () => import('../engines/mongodb/index.ts'),
  mysql: () => import('../engines/mysql/index.ts'),
  postgres: () => import('../engines/postgres/index.ts'),
};

const PROXIES: Readonly<Record<string, () => Promise<{ readonly proxy: ProxyFactory }>>> = {
  command: () => import('../proxies/command/index.ts'),
  haproxy: () => import('../proxies/haproxy/index.ts'),
  memory: () => import('../proxies/memory/index.ts'),
  pgbouncer: () => import('../proxies/pgbouncer/index.ts'),
  template: () => import('../proxies/template/index.ts'),
};

export const engineNames = (): readonly string[] => Object.keys(ENGINES);
export const proxyNames = (): readonly string[] => Object.keys(PROXIES);

/** Null when there is no such engine. */
export async function loadEngine(name: string): Promise<Engine | null> {
  return Object.hasOwn(ENGINES, name) ? (await (ENGINES[name] as (typeof ENGINES)[string])()).engine : null;
}

/** Null when there is no such adapter. */
export async function loadProxy(name: string): Promise<ProxyFactory | null> {
  return Object.hasOwn(PROXIES, name) ? (await (PROXIES[name] as (typeof PROXIES)[string])()).proxy : null;
}
