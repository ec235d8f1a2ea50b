import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { ProxyAdapter, ProxyPromise } from '../../src/core/proxy.ts';
import { waitFor } from '../support/wait.ts';

/** A client behind the proxy, on one connection that it keeps. */
export interface ProxyClient extends AsyncDisposable {
  /** One prepared statement; which side answered. Rejects with what the client saw. */
  ask(): Promise<'blue' | 'green'>;
  begin(): Promise<void>;
  commit(): Promise<void>;
}

/** A proxy that points to blue, with a blue and a green behind it that clients can tell apart. */
export interface ProxyHarness extends AsyncDisposable {
  /** One more adapter to the same proxy: another engine, or the same after a restart. The suite disposes it. */
  adapter(): ProxyAdapter;
  client(): Promise<ProxyClient>;
}

export interface ProxySuite {
  /** What the adapter promises; the suite asks for no more, and for nothing less. Default: everything. */
  readonly promise?: ProxyPromise;
  /** Why the real program cannot be had here: the suite is skipped. */
  readonly missing?: string;
}

const soon = (): AbortSignal => AbortSignal.timeout(10_000);

/** What every proxy adapter must hold; run against the real program. */
export function describeProxy(
  name: string,
  start: () => Promise<ProxyHarness>,
  { promise = { holdsStatements: true, keepsConnections: true }, missing }: ProxySuite = {},
): void {
  const holdsConnections = promise.holdsConnections ?? promise.holdsStatements;
  /** Whoever comes while the proxy is paused: a statement of a client that is there, or else a new connection. */
  const arrive = async (
    harness: ProxyHarness,
    existing: ProxyClient | null,
  ): Promise<'blue' | 'green' | 'refused'> => {
    if (promise.holdsStatements && existing) return existing.ask();
    try {
      await using client = await harness.client();
      return await client.ask();
    } catch (error) {
      if (holdsConnections) throw error;
      return 'refused';
    }
  };

  describe.skipIf(missing !== undefined)(`proxy contract: ${name}`, () => {
    test('a proxy that is ready has no blocking finding, and probing changes nothing', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      expect(adapter.promise).toEqual(promise);
      const report = await adapter.probe(soon());
      expect(report.findings.filter((finding) => finding.level === 'block')).toEqual([]);
      expect(report.version).not.toBe('');
      expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    });

    test.runIf(holdsConnections)(
      'pause holds new work and ends when the running transaction (or its connection) ends',
      async () => {
        await using harness = await start();
        await using adapter = harness.adapter();
        await using busy = await harness.client();
        const late = promise.holdsStatements ? await harness.client() : null;
        await late?.ask();
        await busy.begin();
        let ended = false;
        const pausing = adapter.pause(soon()).then(() => {
          ended = true;
        });
        await using other = harness.adapter();
        await waitFor(async () => (await other.observe(soon())).paused, { what: 'the proxy to be pausing' });
        let answered = false;
        const held = arrive(harness, late).then((side) => {
          answered = true;
          return side;
        });
        await waitFor(async () => [1, null].includes(await adapter.waiting(soon())), {
          what: 'somebody to wait',
        });
        expect({ ended, answered }).toEqual({ ended: false, answered: false });
        await busy.commit();
        if (!promise.keepsConnections) await busy[Symbol.asyncDispose]();
        await pausing;
        expect(answered).toBe(false);
        expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
        await adapter.resume(soon());
        expect(await held).toBe('blue');
        await late?.[Symbol.asyncDispose]();
      },
    );

    test.skipIf(promise.keepsConnections)(
      'a connection that does not end by itself is ended by the pause, and its transaction is not committed',
      async () => {
        await using harness = await start();
        await using adapter = harness.adapter();
        await using busy = await harness.client();
        await busy.begin();
        await busy.ask();
        await adapter.pause(soon());
        expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
        await expect(busy.commit()).rejects.toThrow();
        await adapter.resume(soon());
        await using again = await harness.client();
        expect(await again.ask()).toBe('blue');
      },
    );

    test('a pause over an open transaction ends at its bound, and resume lets everybody go on', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      await using busy = await harness.client();
      const late = promise.holdsStatements ? await harness.client() : null;
      await busy.begin();
      await expect(adapter.pause(AbortSignal.timeout(300))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
      const held = holdsConnections ? arrive(harness, late) : null;
      await adapter.resume(soon());
      expect((await held) ?? 'blue').toBe('blue');
      await using after = await harness.client();
      expect(await after.ask()).toBe('blue');
      if (promise.keepsConnections) await busy.commit();
      expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
      await late?.[Symbol.asyncDispose]();
    });

    test.runIf(promise.keepsConnections)(
      'clients see no error across pause, route and resume, and end up on the other side',
      async () => {
        await using harness = await start();
        await using adapter = harness.adapter();
        const clients = await Promise.all([harness.client(), harness.client(), harness.client()]);
        for (const client of clients) expect(await client.ask()).toBe('blue');
        let on = true;
        const seen = Promise.all(
          clients.map(async (client) => {
            const sides: string[] = [];
            while (on) sides.push(await client.ask());
            return sides;
          }),
        );
        await adapter.pause(soon());
        await adapter.route('green', 1, soon());
        expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: true });
        await waitFor(async () => ((await adapter.waiting(soon())) ?? 0) === clients.length, {
          what: 'the clients to wait',
        });
        await adapter.resume(soon());
        expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
        for (const client of [await harness.client()]) {
          expect(await client.ask()).toBe('green');
          await client[Symbol.asyncDispose]();
        }
        on = false;
        for (const sides of await seen) expect(sides.join(' ')).toMatch(/^(blue )*green( green)*$/);
        for (const client of clients) await client[Symbol.asyncDispose]();
      },
    );

    test.skipIf(promise.keepsConnections)(
      'clients that connect again when they lose their connection never see blue after green',
      async () => {
        await using harness = await start();
        await using adapter = harness.adapter();
        let on = true;
        let refused = 0;
        const answered = new Array<number>(3).fill(0);
        const seen = Promise.all(
          answered.map(async (_zero, index) => {
            const sides: string[] = [];
            while (on) {
              try {
                await using client = await harness.client();
                try {
                  for (; on; answered[index] = sides.length) sides.push(await client.ask());
                } catch {
                  // The connection was ended: the client connects again.
                }
              } catch {
                refused++;
                // Clients back off: a refused connection costs nothing, and trying at once would fill a core.
                await sleep(20);
              }
            }
            return sides;
          }),
        );
        const each = async (what: string): Promise<void> => {
          const before = [...answered];
          await waitFor(() => answered.every((count, index) => count > (before[index] ?? 0)), { what });
        };
        await each('every client to be answered by blue');
        await adapter.pause(soon());
        await adapter.route('green', 1, soon());
        expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: true });
        const count = await adapter.waiting(soon());
        if (holdsConnections && count !== null)
          await waitFor(async () => (await adapter.waiting(soon())) === answered.length, {
            what: 'all to wait',
          });
        await adapter.resume(soon());
        expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
        await each('every client to be answered by green');
        on = false;
        for (const sides of await seen) expect(sides.join(' ')).toMatch(/^(blue )+green( green)*$/);
        if (holdsConnections) expect(refused).toBe(0);
      },
    );

    test('every act is idempotent, and the way back works like the way there', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      await adapter.resume(soon());
      await adapter.pause(soon());
      await adapter.pause(soon());
      for (const side of ['green', 'green', 'blue'] as const) {
        await adapter.route(side, 1, soon());
        expect(await adapter.observe(soon())).toEqual({ to: side, paused: true });
      }
      await adapter.resume(soon());
      await adapter.resume(soon());
      await using client = await harness.client();
      expect(await client.ask()).toBe('blue');
    });

    test('pause-survives-admin-death: a proxy paused by an engine that is gone is seen paused and can be resumed', async () => {
      await using harness = await start();
      const client = promise.holdsStatements ? await harness.client() : null;
      {
        await using first = harness.adapter();
        await first.pause(soon());
      }
      await using second = harness.adapter();
      expect(await second.observe(soon())).toEqual({ to: 'blue', paused: true });
      const report = await second.probe(soon());
      expect(report.findings.some((finding) => finding.level === 'block')).toBe(true);
      const came = arrive(harness, client);
      if (!holdsConnections) expect(await came).toBe('refused');
      await second.resume(soon());
      if (holdsConnections) expect(await came).toBe('blue');
      expect(await second.observe(soon())).toEqual({ to: 'blue', paused: false });
      await client?.[Symbol.asyncDispose]();
    });
  });
}
