import { expect, test } from 'vitest';
import * as api from '../../../src/index.ts';

test('the public API is this and nothing else', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "CODES",
      "DATA_SCHEMAS",
      "VerdigrisError",
      "createEngine",
      "envelopeSchema",
      "loadConfig",
      "loadProxyAdapter",
      "parseEnvelope",
    ]
  `);
});

test('an engine connects nothing before it is asked to', async () => {
  const loaded = await api.loadConfig(
    new URL('../../../config/postgres.example.yaml', import.meta.url).pathname,
    {
      env: { BLUE_URL: 'postgres://a@127.0.0.1:1/b', GREEN_URL: 'postgres://a@127.0.0.1:1/g' },
    },
  );
  const engine = api.createEngine(loaded);
  await engine.close();
  await expect(engine.plan()).rejects.toMatchObject({ code: 'INTERRUPTED' });
});

test('a signal that is already aborted closes the engine', async () => {
  const loaded = await api.loadConfig(
    new URL('../../../config/postgres.example.yaml', import.meta.url).pathname,
    {
      env: { BLUE_URL: 'postgres://a@127.0.0.1:1/b', GREEN_URL: 'postgres://a@127.0.0.1:1/g' },
    },
  );
  const engine = api.createEngine(loaded, { signal: AbortSignal.abort() });
  await expect(engine.plan()).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
