import { startPostgresInDocker } from './postgres-docker.ts';
import { startPostgresLocally } from './postgres-local.ts';
import type { PostgresOptions, PostgresServer } from './postgres-server.ts';
import { provider } from './provider.ts';

export { POSTGRES_VERSIONS, postgresUrl, TEST_PASSWORD, TEST_SETTINGS } from './postgres-server.ts';
export type { PostgresOptions, PostgresServer, PostgresVersion, TlsFiles } from './postgres-server.ts';

/** A server of this test alone. Ends and loses its data when it is disposed of, or when this process ends. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  return (await provider()) === 'docker' ? startPostgresInDocker(options) : startPostgresLocally(options);
}
