import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';

import { freePort } from './free-port.ts';
import {
  type PostgresOptions,
  type PostgresServer,
  postgresUrl,
  TEST_PASSWORD,
  TEST_SETTINGS,
} from './postgres-server.ts';
import { waitFor } from './wait.ts';

const DATA_DIR = '/var/lib/postgresql/verdigris';
const START_TIMEOUT_MS = 120_000;

/**
 * The same server from the official image. The port is fixed on the host's side, so that a server that is stopped and started again
 * keeps its address.
 */
export async function startPostgresInDocker(options: PostgresOptions): Promise<PostgresServer> {
  const port = await freePort();
  const settings: Record<string, string> = { ...TEST_SETTINGS, ...options.settings };
  let image = new GenericContainer(`postgres:${options.version}`)
    .withEnvironment({ POSTGRES_PASSWORD: TEST_PASSWORD, PGDATA: DATA_DIR })
    .withExposedPorts({ container: 5432, host: port })
    .withStartupTimeout(START_TIMEOUT_MS)
    // Once for the server that initialises the data, once for the real one.
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2));
  if (options.tls !== undefined) {
    const files = { cert: options.tls.certFile, key: options.tls.keyFile, ca: options.tls.caFile };
    settings['ssl'] = 'on';
    for (const [name, source] of Object.entries(files)) {
      const target = `/etc/verdigris-tls/${name}.pem`;
      // The copy belongs to root; PostgreSQL accepts a root-owned key when only root and its group may read it.
      image = image.withCopyFilesToContainer([{ source, target, mode: name === 'key' ? 0o640 : 0o644 }]);
      settings[`ssl_${name}_file`] = target;
    }
  }
  if (options.hba !== undefined) {
    const target = '/etc/verdigris-hba.conf';
    const content = `local all all trust\n${options.hba.join('\n')}\n`;
    image = image.withCopyContentToContainer([{ content, target, mode: 0o644 }]);
    settings['hba_file'] = target;
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return new DockerPostgres(options.version, port, await image.withCommand(['postgres', ...flags]).start());
}

class DockerPostgres implements PostgresServer {
  readonly version: number;
  readonly port: number;
  readonly dataDir = DATA_DIR;
  readonly #container: StartedTestContainer;

  constructor(version: number, port: number, container: StartedTestContainer) {
    this.version = version;
    this.port = port;
    this.#container = container;
  }

  get pid(): number {
    throw new Error('a server in docker has no process id on this machine');
  }

  url(database?: string, user?: string): string {
    return postgresUrl({ port: this.port, host: this.#container.getHost() }, database, user);
  }

  async start(): Promise<void> {
    await this.#container.restart({ timeout: 0 });
    await waitFor(async () => (await this.#container.exec(['pg_isready', '-U', 'postgres'])).exitCode === 0, {
      what: `PostgreSQL ${this.version} in docker to answer`,
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    if (mode === 'immediate') {
      // The container ends with its first process, so the answer of this command may never come.
      await this.#container.exec(['bash', '-c', 'kill -QUIT 1']).catch(() => undefined);
    }
    await this.#container.stop({ remove: false, timeout: 15_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#container.stop({ remove: true, timeout: 0 });
  }
}
