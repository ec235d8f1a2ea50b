import { describe, expect, test } from 'vitest';
import type { Status } from '../../src/orchestrator/status.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace, type EngineProcess } from '../support/engine-process.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const yaml = (blue: string, green: TestDatabase): string => `version: 1
migration: lag
blue: { engine: postgres, url: "${blue}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
verify: { after_copy: "off" }
apply: { heartbeat: 500ms }
tables:
  - from: public.item
    to: [{ table: public.item }]
`;
const TABLE = 'CREATE TABLE public.item (id int PRIMARY KEY, n int NOT NULL)';

/** Every lag that is printed from now on until `over` says so. */
async function lagsWhile(engine: EngineProcess, over: () => Promise<boolean>): Promise<(number | null)[]> {
  const lags: (number | null)[] = [];
  let last: Status | null = null;
  await waitFor(
    async () => {
      if (engine.status !== null && engine.status !== last) {
        last = engine.status;
        lags.push(last.lag.commitSeconds);
      }
      return over();
    },
    { what: 'the end of the observation', timeoutMs: 60_000 },
  );
  return lags;
}

describe('lag is honest', () => {
  test('F39: with the sink stopped for 10 s it reads at least 9 s, and comes down when the sink goes on', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(TABLE);
    await blue.query('INSERT INTO public.item SELECT g, 0 FROM generate_series(1, 100) g');
    await using place = await Workplace.create({
      'verdigris.yaml': yaml(blue.url, green),
      'green.sql': TABLE,
    });
    const engine = place.start();
    await engine.until('it replicates', (status) => status.phase === 'replicating');
    // Idle: 0 within a heartbeat.
    await engine.until('an idle source reads 0', (status) => status.lag.commitSeconds === 0, 5_000);

    const holder = await green.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE public.item IN ACCESS EXCLUSIVE MODE');
    const stopped = performance.now();
    await blue.query('UPDATE public.item SET n = n + 1 WHERE id = 1');
    await engine.until('the lag of a stopped sink', (status) => (status.lag.commitSeconds ?? 0) >= 9, 20_000);
    const seen = (performance.now() - stopped) / 1000;
    expect(seen).toBeLessThan(11);
    expect(engine.status?.lag.commitSeconds).toBeLessThanOrEqual(seen + 0.5);
    await holder.query('ROLLBACK');
    await engine.until(
      'the lag comes down',
      (status) => status.lag.commitSeconds !== null && status.lag.commitSeconds < 1,
      10_000,
    );
    await engine.kill('SIGTERM');
  });

  test('with the stream cut it is unknown, never 0, and known again after the reconnect', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(TABLE);
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: blue.server.port });
    const through = new URL(blue.url);
    through.port = String(proxy.port);
    await using place = await Workplace.create({
      'verdigris.yaml': yaml(through.href, green),
      'green.sql': TABLE,
    });
    const engine = place.start();
    await engine.until(
      'it replicates',
      (status) => status.phase === 'replicating' && status.lag.commitSeconds === 0,
    );
    await proxy.refuse();
    proxy.cut();
    await engine.until('the lag is unknown', (status) => status.lag.commitSeconds === null, 5_000);
    await blue.query('INSERT INTO public.item VALUES (1, 1)');
    const until = performance.now() + 3_000;
    const lags = await lagsWhile(engine, () => Promise.resolve(performance.now() > until));
    expect(lags.length).toBeGreaterThan(5);
    expect(lags.every((lag) => lag === null)).toBe(true);
    await proxy.restore();
    await engine.until('it is known again', (status) => status.lag.commitSeconds === 0, 30_000);
    expect(await green.query('SELECT id, n FROM public.item')).toEqual([{ id: 1, n: 1 }]);
    await engine.kill('SIGTERM');
  });

  test('F20: a source that answers nothing any more never reads 0 for longer than a heartbeat', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(TABLE);
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: blue.server.port });
    const through = new URL(blue.url);
    through.port = String(proxy.port);
    await using place = await Workplace.create({
      'verdigris.yaml': yaml(through.href, green),
      'green.sql': TABLE,
    });
    const engine = place.start();
    await engine.until(
      'it replicates',
      (status) => status.phase === 'replicating' && status.lag.commitSeconds === 0,
    );
    proxy.blackhole();
    await engine.until('it is not 0 any more', (status) => status.lag.commitSeconds !== 0, 3_000);
    const until = performance.now() + 4_000;
    const lags = await lagsWhile(engine, () => Promise.resolve(performance.now() > until));
    expect(lags.filter((lag) => lag === 0)).toEqual([]);
    await engine.kill('SIGKILL');
  });
});
