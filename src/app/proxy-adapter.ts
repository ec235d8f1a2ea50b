import { VerdigrisError } from '../core/errors.ts';
import { NO_FAILPOINTS } from '../core/failpoint.ts';
import { SILENT, type Logger } from '../core/log.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import { loadProxy, proxyNames } from './registry.ts';

/** Makes an adapter from an entry of `cutover.proxies` without its `adapter`. Dispose of it. @throws VerdigrisError CONFIG_INVALID */
export type MakeProxyAdapter = (
  config: Readonly<Record<string, unknown>>,
  options?: { readonly logger?: Logger },
) => ProxyAdapter;

/**
 * The adapter of that name, without a migration: to look at a proxy, or to run the contract suite (`verdigris/contract/proxy`)
 * on a program or a template of one's own.
 * @throws VerdigrisError CONFIG_INVALID
 */
export async function loadProxyAdapter(name: string): Promise<MakeProxyAdapter> {
  const factory = await loadProxy(name);
  if (factory === null) {
    throw new VerdigrisError('CONFIG_INVALID', `There is no proxy adapter ${name}.`, {
      remedy: `Adapters: ${proxyNames().join(', ')}.`,
    });
  }
  return (config, options = {}) => {
    const parsed = factory.parseConfig(config);
    if ('issues' in parsed) {
      const lines = parsed.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
      throw new VerdigrisError('CONFIG_INVALID', `The ${name} entry is not valid: ${lines.join('; ')}.`);
    }
    return factory.create(parsed.config, { log: options.logger ?? SILENT, failpoints: NO_FAILPOINTS });
  };
}
