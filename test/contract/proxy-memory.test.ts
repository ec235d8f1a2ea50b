import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { MemoryProxy, MemoryProxyState, type Admission } from '../../src/proxies/memory/adapter.ts';
import { describeProxy, type ProxyHarness } from './proxy.ts';

async function start(): Promise<ProxyHarness> {
  const state = new MemoryProxyState();
  return {
    adapter: () => new MemoryProxy('memory', state, NO_FAILPOINTS),
    client: async () => {
      let open: Admission | null = null;
      return {
        ask: async () => {
          const admission = await state.enter();
          // A statement takes a turn of the event loop, as a real one would.
          await new Promise((resolve) => setImmediate(resolve));
          admission.leave();
          return admission.side;
        },
        begin: async () => {
          open = await state.enter();
        },
        commit: async () => open?.leave(),
        [Symbol.asyncDispose]: async () => open?.leave(),
      };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

describeProxy('memory', start);
