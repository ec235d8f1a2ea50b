import { createHash } from 'node:crypto';
import type { PostgresConfig } from './config.ts';

type Direction = 'forward' | 'reverse';

const MAX_BYTES = 63;

/** A name that a slot may have, from any migration name; different migrations get different names. */
function objectName(migration: string, suffix: string): string {
  const plain = `verdigris_${migration}${suffix}`;
  if (/^[a-z0-9_]+$/.test(plain) && plain.length <= MAX_BYTES) return plain;
  const digest = createHash('sha256').update(migration).digest('hex').slice(0, 10);
  const readable = migration
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]/g, '_')
    .slice(0, MAX_BYTES - 21 - suffix.length);
  return `verdigris_${readable}_${digest}${suffix}`;
}

const suffixOf = (direction: Direction): string => (direction === 'reverse' ? '_reverse' : '');

export const slotName = (config: PostgresConfig, migration: string, direction: Direction): string =>
  config.replication.slot ?? objectName(migration, suffixOf(direction));

export const publicationName = (config: PostgresConfig, migration: string, direction: Direction): string =>
  config.replication.publication ?? objectName(migration, suffixOf(direction));

/** What our walsenders begin their application name with; the term follows. ASCII and short, or the server would change it. */
export const streamApplicationPrefix = (migration: string, direction: Direction): string => {
  const digest = createHash('sha256').update(migration).digest('hex').slice(0, 8);
  const readable = migration.replaceAll(/[^A-Za-z0-9_.-]/g, '_').slice(0, 20);
  return `verdigris:${readable}.${digest}:${direction}:t`;
};
