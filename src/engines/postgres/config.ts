import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';
import { parseDuration, parseSize } from '../../core/units.ts';

const duration = (fallback: string, description: string) =>
  z
    .string()
    .refine((text) => parseDuration(text) !== null, 'not a duration (examples: 500ms, 30s, 1h30m)')
    .default(fallback)
    .describe(description);

const size = (fallback: string, description: string) =>
  z
    .string()
    .refine((text) => parseSize(text) !== null, 'not a size (examples: 64MiB, 20GiB)')
    .default(fallback)
    .describe(description);

const name = z
  .string()
  .min(1)
  .refine((text) => Buffer.byteLength(text) <= 63, 'longer than 63 bytes');

/** The PostgreSQL part of `blue` and `green`. Every leaf has a type, a default and a description. */
export const schema = z.strictObject({
  url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .describe(
      'Address: postgres://user:password@host:port/database. sslmode and other ssl parameters are refused: use tls.',
    ),
  tls: z
    .strictObject({
      mode: z
        .enum(['disable', 'verify-ca', 'verify-full'])
        .optional()
        .describe(
          'Default: verify-full, or disable for a loopback address or socket. There is no unverified mode.',
        ),
      ca: z
        .string()
        .optional()
        .describe('File with the certificates to trust; default: those of the system.'),
      cert: z.string().optional().describe('File with our certificate.'),
      key: z.string().optional().describe('File with the key of our certificate.'),
      servername: z
        .string()
        .optional()
        .describe('Name the certificate must carry; default: the host of the address.'),
    })
    .prefault({})
    .describe('Used for every connection: queries, replication and administration.'),
  replication: z
    .strictObject({
      slot: name.optional().describe('Replication slot; default: verdigris_<migration>.'),
      publication: name
        .optional()
        .describe('Publication, created with exactly the mapped tables; default: verdigris_<migration>.'),
      failover_slot: z
        .enum(['auto', 'on', 'off'])
        .default('auto')
        .describe('Create the slot with failover = true (PostgreSQL 17 and newer).'),
      streaming: z
        .boolean()
        .default(false)
        .describe(
          'Receive large transactions while they are still in progress (protocol 2) into a spool file.',
        ),
      backlog: z
        .enum(['copies', 'walsender'])
        .default('copies')
        .describe(
          'Who reads a backlog of more than 16 MiB. copies: two temporary copies of the slot in turn, where the messages are small; a third of the processor time, and up to a GiB of temporary files. walsender: the slot itself, always.',
        ),
    })
    .prefault({})
    .describe('How the log is read when this side is the source.'),
  limits: z
    .strictObject({
      max_wal_retained: size(
        '20GiB',
        'WAL that this server may retain for us before the source is protected.',
      ),
      max_connections: z.int().min(4).max(200).default(12).describe('Connections we use on this server.'),
      statement_timeout: duration('15m', 'Longest statement of the copy and of verification.'),
    })
    .prefault({})
    .describe('Budgets on this server.'),
  session: z
    .strictObject({
      synchronous_commit: z
        .enum(['off_until_catchup', 'on', 'off'])
        .default('off_until_catchup')
        .describe(
          'Durability of apply transactions while this side does not serve. Acknowledged is only what is flushed.',
        ),
      session_replication_role: z
        .enum(['replica', 'origin'])
        .default('replica')
        .describe('replica: foreign keys and triggers do not fire during apply.'),
    })
    .prefault({})
    .describe('Settings of the apply sessions when this side is the sink.'),
});

export type PostgresConfig = z.output<typeof schema>;

/** For a run beside the migration: it must not meet the slot and the publication that the configuration names. */
export function withoutNames(config: PostgresConfig): PostgresConfig {
  const { slot: _slot, publication: _publication, ...replication } = config.replication;
  return { ...config, replication };
}

/** Checks the PostgreSQL part of a side. */
export function parseConfig(input: unknown): { config: PostgresConfig } | { issues: ConfigIssue[] } {
  const result = schema.safeParse(input);
  if (!result.success) {
    return {
      issues: result.error.issues.flatMap((issue) =>
        issue.code === 'unrecognized_keys'
          ? issue.keys.map((key) => ({
              path: [...(issue.path as (string | number)[]), key],
              message: `unknown key ${key}`,
            }))
          : [{ path: issue.path as (string | number)[], message: issue.message }],
      ),
    };
  }
  const issues = urlIssues(result.data.url);
  return issues.length > 0 ? { issues } : { config: result.data };
}

function urlIssues(text: string): ConfigIssue[] {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return [{ path: ['url'], message: 'not an address' }];
  }
  const refused = [...url.searchParams.keys()].filter((key) => /^(ssl|uselibpq)/i.test(key));
  if (refused.length > 0)
    return [{ path: ['url'], message: `${refused.join(', ')} in the address: use the tls block` }];
  if (url.pathname.length < 2) return [{ path: ['url'], message: 'the address names no database' }];
  return [];
}
