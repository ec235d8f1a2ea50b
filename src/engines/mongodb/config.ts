import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';
import { parseDuration } from '../../core/units.ts';

const duration = (fallback: string, description: string) =>
  z
    .string()
    .refine((text) => parseDuration(text) !== null, 'not a duration (examples: 500ms, 30s, 1h30m)')
    .default(fallback)
    .describe(description);

/** The MongoDB part of `blue` and `green`. Every leaf has a type, a default and a description. */
export const schema = z.strictObject({
  url: z
    .string()
    .regex(/^mongodb(\+srv)?:\/\//, 'not a mongodb:// address')
    .describe(
      'Address of the replica set: mongodb://user:password@host:port,host:port/?replicaSet=NAME&authSource=admin, or of one router of a sharded cluster, without replicaSet. Names no database: tables are database.collection. tls parameters are refused: use tls.',
    ),
  tls: z
    .strictObject({
      mode: z
        .enum(['disable', 'verify-full'])
        .optional()
        .describe('Default: verify-full, or disable for loopback addresses. There is no unverified mode.'),
      ca: z
        .string()
        .optional()
        .describe('File with the certificates to trust; default: those of the system.'),
      cert_key: z.string().optional().describe('File with our certificate and its key (PEM).'),
    })
    .prefault({})
    .describe('Used for every connection.'),
  limits: z
    .strictObject({
      max_connections: z.int().min(4).max(500).default(24).describe('Connections we use on this server.'),
      min_oplog_window: duration(
        '1h',
        'Less log than that left between our position and its oldest entry is reported as a danger.',
      ),
      statement_timeout: duration('15m', 'Longest single command of the copy and of verification.'),
    })
    .prefault({})
    .describe('Budgets on this server.'),
});

export type MongoConfig = z.output<typeof schema>;

/** Checks the MongoDB part of a side. */
export function parseConfig(input: unknown): { config: MongoConfig } | { issues: ConfigIssue[] } {
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

/** Parameters that would take back what the engine relies on. */
const OURS = /^(tls|ssl|readPreference|readConcern|w$|wtimeout|journal|retryWrites|appName)/i;

function urlIssues(text: string): ConfigIssue[] {
  const query = text.split('?')[1] ?? '';
  const names = [...new URLSearchParams(query).keys()];
  const refused = names.filter((name) => OURS.test(name));
  return refused.map((name) => ({
    path: ['url'],
    message: /^(tls|ssl)/i.test(name)
      ? `${name} in the address: use the tls block`
      : `${name} in the address: it is set by Verdigris`,
  }));
}

/** Hosts of the address, for the default of tls.mode. */
export function isLoopback(url: string): boolean {
  const hosts = (/^mongodb:\/\/(?:[^@/]*@)?([^/?]+)/.exec(url)?.[1] ?? '').split(',');
  return hosts.every((host) => /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(host));
}
