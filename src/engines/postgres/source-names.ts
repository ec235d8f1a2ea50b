import { createHash, randomBytes } from 'node:crypto';
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

/** The stream whose objects are named. */
interface Named {
  readonly direction: Direction;
  readonly watch?: true;
}

const suffixOf = ({ direction, watch }: Named): string =>
  (direction === 'reverse' ? '_reverse' : '') + (watch === true ? '_watch' : '');

/** A name from the configuration is that of the stream that carries. */
const named = (configured: string | null | undefined, migration: string, stream: Named): string =>
  stream.watch === true || configured === null || configured === undefined
    ? objectName(migration, suffixOf(stream))
    : configured;

export const slotName = (config: PostgresConfig, migration: string, stream: Named): string =>
  named(config.replication.slot, migration, stream);

export const publicationName = (config: PostgresConfig, migration: string, stream: Named): string =>
  named(config.replication.publication, migration, stream);

/** What our walsenders begin their application name with; the term follows. ASCII and short, or the server would change it. */
export const streamApplicationPrefix = (migration: string, { direction, watch }: Named): string => {
  const digest = createHash('sha256').update(migration).digest('hex').slice(0, 8);
  const readable = migration.replaceAll(/[^A-Za-z0-9_.-]/g, '_').slice(0, 20);
  return `verdigris:${readable}.${digest}:${direction}${watch === true ? ':watch' : ''}:t`;
};

/** Bytes that a copy's name has of its own. */
const COPY_SUFFIX = 8;
const COPY_PREFIX = MAX_BYTES - 1 - COPY_SUFFIX;

/** A name for a temporary copy of a slot, another one each time. */
export const copyName = (slot: string): string =>
  `${slot.slice(0, COPY_PREFIX)}_${randomBytes(COPY_SUFFIX / 2).toString('hex')}`;

/** Condition for rows of `pg_replication_slots`: slot `$1` is being read, or a copy of it. */
export const IS_READ = `active AND (slot_name = $1 OR temporary AND starts_with(slot_name::text, left($1::text, ${COPY_PREFIX}) || '_'))`;
