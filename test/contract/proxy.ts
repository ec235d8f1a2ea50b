import { describe, expect, test } from 'vitest';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
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

const soon = (): AbortSignal => AbortSignal.timeout(10_000);

/** What every proxy adapter must hold; run against the real program. */
export function describeProxy(name: string, start: () => Promise<ProxyHarness>): void {
  describe(`proxy contract: ${name}`, () => {
    test('a proxy that is ready has no blocking finding, and probing changes nothing', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      const report = await adapter.probe(soon());
      expect(report.findings.filter((finding) => finding.level === 'block')).toEqual([]);
      expect(report.version).not.toBe('');
      expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    });

    test('pause holds new statements and ends when the running transaction ends', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      await using busy = await harness.client();
      await using late = await harness.client();
      await late.ask();
      await busy.begin();
      let ended = false;
      const pausing = adapter.pause(soon()).then(() => {
        ended = true;
      });
      await using other = harness.adapter();
      await waitFor(async () => (await other.observe(soon())).paused, { what: 'the proxy to be pausing' });
      let answered = false;
      const held = late.ask().then((side) => {
        answered = true;
        return side;
      });
      await waitFor(async () => (await adapter.waiting(soon())) === 1, { what: 'the new statement to wait' });
      expect({ ended, answered }).toEqual({ ended: false, answered: false });
      await busy.commit();
      await pausing;
      expect(answered).toBe(false);
      expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
      await adapter.resume(soon());
      expect(await held).toBe('blue');
    });

    test('a pause over an open transaction ends at its bound, and resume lets everybody go on', async () => {
      await using harness = await start();
      await using adapter = harness.adapter();
      await using busy = await harness.client();
      await using late = await harness.client();
      await busy.begin();
      await expect(adapter.pause(AbortSignal.timeout(300))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
      const held = late.ask();
      await adapter.resume(soon());
      expect(await held).toBe('blue');
      await busy.commit();
      expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    });

    test('clients see no error across pause, route and resume, and end up on the other side', async () => {
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
    });

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
      await using client = await harness.client();
      {
        await using first = harness.adapter();
        await first.pause(soon());
      }
      await using second = harness.adapter();
      expect(await second.observe(soon())).toEqual({ to: 'blue', paused: true });
      const report = await second.probe(soon());
      expect(report.findings.some((finding) => finding.level === 'block')).toBe(true);
      const held = client.ask();
      await second.resume(soon());
      expect(await held).toBe('blue');
    });
  });
}
