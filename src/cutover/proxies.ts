import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { ProxyAdapter, Route } from '../core/proxy.ts';
import { bounded } from './budget.ts';

/** Does it to all at once with one bound; the first that fails ends the attempt for the others. */
export async function allOrNothing(
  proxies: readonly ProxyAdapter[],
  signal: AbortSignal,
  act: (proxy: ProxyAdapter, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  await Promise.allSettled(
    proxies.map(async (proxy) => {
      try {
        await bounded(act(proxy, both), both);
      } catch (error) {
        if (!failed.signal.aborted) failed.abort(signal.aborted ? error : named(proxy, error));
      }
    }),
  );
  if (failed.signal.aborted) throw asVerdigrisError(failed.signal.reason);
}

/** Tries it with every one, whatever happens to the others; what went wrong, by proxy. Empty: nothing. */
export async function eachAlone(
  proxies: readonly ProxyAdapter[],
  signal: AbortSignal,
  act: (proxy: ProxyAdapter, signal: AbortSignal) => Promise<void>,
): Promise<readonly string[]> {
  const problems = await Promise.all(
    proxies.map(async (proxy) => {
      try {
        await bounded(act(proxy, signal), signal);
        return [];
      } catch (error) {
        return [`${proxy.name}: ${asVerdigrisError(error).message}`];
      }
    }),
  );
  return problems.flat();
}

/** Where it sends its clients; unknown when it does not answer. */
export async function observed(proxy: ProxyAdapter, signal: AbortSignal): Promise<Route> {
  try {
    return await bounded(proxy.observe(signal), signal);
  } catch (error) {
    return { to: 'unknown', paused: false, detail: asVerdigrisError(error).message };
  }
}

export const showRoute = (route: Route): string =>
  `${route.to}${route.paused ? ', paused' : ''}${'detail' in route ? ` (${route.detail})` : ''}`;

/** @throws VerdigrisError PROXY_UNEXPECTED when the proxy itself does not say so */
export async function confirmRoute(
  proxy: ProxyAdapter,
  side: 'blue' | 'green',
  signal: AbortSignal,
): Promise<void> {
  const route = await bounded(proxy.observe(signal), signal);
  if (route.to === side) return;
  throw new VerdigrisError(
    'PROXY_UNEXPECTED',
    `${proxy.name} says ${showRoute(route)} after it was pointed to ${side}.`,
  );
}

const named = (proxy: ProxyAdapter, caught: unknown): VerdigrisError => {
  const error = asVerdigrisError(caught);
  return error.message.includes(proxy.name)
    ? error
    : new VerdigrisError(error.code, `${proxy.name}: ${error.message}`, {
        remedy: error.remedy,
        context: error.context,
        cause: error,
      });
};
