import { isIP } from 'node:net';
import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';
import { parseDuration } from '../../core/units.ts';

const duration = (fallback: string, description: string) =>
  z
    .string()
    .refine((text) => parseDuration(text) !== null, 'not a duration (examples: 500ms, 30s, 1h30m)')
    .default(fallback)
    .describe(description);

/** The part of `blue` and `green` that is this engine's. Every leaf has a type, a default and a description. */
export const schema = z.strictObject({
  url: z
    .string()
    .regex(/^(mysql|mariadb):\/\//, 'not a mysql:// address')
    .describe(
      'Address: mysql://user:password@host:port/database. Parameters in the address are refused: use tls.',
    ),
  tls: z
    .strictObject({
      mode: z
        .enum(['disable', 'verify-ca', 'verify-full'])
        .optional()
        .describe('Default: verify-full, or disable for a loopback address. There is no unverified mode.'),
      ca: z
        .string()
        .optional()
        .describe('File with the certificates to trust; default: those of the system.'),
      cert: z.string().optional().describe('File with our certificate.'),
      key: z.string().optional().describe('File with the key of our certificate.'),
    })
    .prefault({})
    .describe('Used for every connection: queries, binary log and administration.'),
  replication: z
    .strictObject({
      server_id: z
        .int()
        .min(1)
        .max(4_294_967_295)
        .optional()
        .describe(
          'Number under which we read the binary log, unique among its readers; default: from the name of the migration.',
        ),
    })
    .prefault({})
    .describe('How the binary log is read when this side is the source.'),
  limits: z
    .strictObject({
      max_connections: z.int().min(4).max(200).default(12).describe('Connections we use on this server.'),
      statement_timeout: duration('15m', 'Longest statement of the copy and of verification.'),
    })
    .prefault({})
    .describe('Budgets on this server.'),
  fence: z
    .strictObject({
      end_sessions: z
        .boolean()
        .default(true)
        .describe('End the sessions of others when writes are stopped: read_only is for the whole server.'),
    })
    .prefault({})
    .describe('How the writes of this server are stopped.'),
});

export type MysqlConfig = z.output<typeof schema>;

/** Checks this engine's part of a side. */
export function parseConfig(input: unknown): { config: MysqlConfig } | { issues: ConfigIssue[] } {
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
  if (issues.length > 0) return { issues };
  const config = result.data;
  // The driver would compare the certificate with "localhost" instead of the address.
  if (tlsMode(config) === 'verify-full' && isIP(hostOf(config)) !== 0)
    return {
      issues: [
        {
          path: ['url'],
          message:
            'an IP address cannot be compared with a certificate here: give the name of the server, or set tls.mode to verify-ca (or disable)',
        },
      ],
    };
  return { config };
}

/** What is asked of TLS. Default: verify-full, or nothing for a loopback address. */
export function tlsMode(config: MysqlConfig): 'disable' | 'verify-ca' | 'verify-full' {
  const host = hostOf(config);
  const local = host === 'localhost' || host === '::1' || host.startsWith('127.');
  return config.tls.mode ?? (local ? 'disable' : 'verify-full');
}

/** The host that the address names. */
export const hostOf = (config: MysqlConfig): string =>
  decodeURIComponent(new URL(config.url).hostname).replace(/^\[|\]$/g, '');

function urlIssues(text: string): ConfigIssue[] {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return [{ path: ['url'], message: 'not an address' }];
  }
  const parameters = [...url.searchParams.keys()];
  if (parameters.length > 0)
    return [
      {
        path: ['url'],
        message: `${parameters.join(', ')} in the address: not a setting; for TLS use the tls block`,
      },
    ];
  if (url.pathname.length < 2) return [{ path: ['url'], message: 'the address names no database' }];
  return [];
}

/** The database that the address names. */
export const databaseOf = (config: MysqlConfig): string =>
  decodeURIComponent(new URL(config.url).pathname.slice(1));
