import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';
import { parseDocument } from 'yaml';

interface Service {
  image: string;
  command?: string[];
  ports: string[];
  volumes: string[];
  configs?: { source: string; target: string }[];
}

interface Compose {
  services: Record<string, Service>;
  configs: Record<string, { content: string }>;
  volumes: Record<string, unknown>;
}

const document = parseDocument(readFileSync(new URL('../../docker-compose.yml', import.meta.url), 'utf8'), {
  merge: true,
});
const compose = document.toJS() as Compose;

function service(name: string): Service {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
}

describe('docker-compose.yml', () => {
  it('is YAML without errors or doubtful places', () => {
    expect([...document.errors, ...document.warnings]).toEqual([]);
  });

  it('has blue, green, the pooler and those of the other engines, of the versions that the README names', () => {
    const images = Object.entries(compose.services).map(([name, { image }]) => [name, image.split('-')[0]]);
    expect(images).toEqual([
      ['blue', 'postgres:16'],
      ['green', 'postgres:18'],
      ['mysql-blue', 'mysql:8.4'],
      ['mysql-green', 'mysql:9.7'],
      ['mariadb-blue', 'mariadb:10.11'],
      ['mariadb-green', 'mariadb:11.4'],
      ['pgbouncer', 'edoburu/pgbouncer:v1.24.1'],
      ['mongo-blue', 'mongo:7'],
      ['mongo-green', 'mongo:8'],
    ]);
  });

  it('opens no port to other machines, and none twice', () => {
    const ports = Object.values(compose.services).flatMap((one) => one.ports);
    expect(ports.length).toBe(9);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    expect(new Set(ports.map((port) => port.split(':')[1])).size).toBe(ports.length);
  });

  it.each(['blue', 'green'])('lets %s be a source: logical WAL', (side) => {
    const { command = [] } = service(side);
    expect(command[command.indexOf('wal_level=logical') - 1]).toBe('-c');
  });

  it('declares every volume and configuration that a service asks for', () => {
    for (const [name, one] of Object.entries(compose.services)) {
      const named = one.volumes
        .map((volume) => volume.split(':')[0] ?? '')
        .filter((volume) => !volume.startsWith('.'));
      for (const volume of named) expect(Object.keys(compose.volumes), name).toContain(volume);
      for (const { source } of one.configs ?? [])
        expect(Object.keys(compose.configs), name).toContain(source);
    }
  });

  it('pools by transaction with prepared statements, and keeps [databases] in the file that the adapter rewrites', () => {
    const ini = compose.configs['pgbouncer']?.content ?? '';
    expect(ini).toContain('pool_mode = transaction');
    expect(ini).toMatch(/max_prepared_statements = [1-9]/);
    expect(ini).toContain('%include /data/databases.ini');
    expect(ini).not.toContain('[databases]');
    expect(service('pgbouncer').volumes).toEqual(['./.verdigris/pgbouncer:/data']);
  });
});
