import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';

const word = z
  .string()
  .min(1)
  .refine((text) => !/[\0\r\n]/.test(text), 'holds a line break or NUL');

const route = z.strictObject({
  host: word.describe('Host, address or socket directory, exactly as it stands in the ini file.'),
  port: z.int().min(1).max(65_535).default(5432).describe('Port of the server.'),
  dbname: word.describe('Database on that server.'),
  user: word
    .optional()
    .describe(
      'User forced on server connections; give it for both sides or for neither: PgBouncer cannot drop one again.',
    ),
});

/** One entry of `cutover.proxies` with `adapter: pgbouncer`, without that key: one PgBouncer process. */
export const schema = z.strictObject({
  admin_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .describe(
      'Admin console of this process: postgres://user:password@host:port/pgbouncer, or ?host=/directory for a socket. One entry for each process: with so_reuseport a TCP address reaches any of them.',
    ),
  client_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .optional()
    .describe('Address of an ordinary client of this process, for smoke queries through the proxy.'),
  ini: word.describe(
    'File that holds the entries of the [databases] section (the main file or one it includes). It is replaced atomically; the file before is kept beside it as <file>.verdigris-backup.',
  ),
  databases: z
    .array(
      z
        .string()
        .min(1)
        .refine((text) => Buffer.byteLength(text) <= 63, 'longer than 63 bytes')
        .refine((text) => !/['\0\r\n]/.test(text), "PgBouncer cannot name a database with ' or a line break")
        .refine((text) => text !== 'pgbouncer' && text !== '*', 'reserved by PgBouncer'),
    )
    .min(1)
    .refine((names) => new Set(names).size === names.length, 'a database is named twice')
    .describe(
      'Names by which clients know what is switched. Each needs an entry of its own in the ini file.',
    ),
  blue: route.describe('Where these databases point while blue serves.'),
  green: route.describe('Where they point while green serves.'),
});

export type PgBouncerConfig = z.output<typeof schema>;
export type PgBouncerRoute = PgBouncerConfig['blue'];

/** Checks one entry. Pure. */
export function parseConfig(input: unknown): { config: PgBouncerConfig } | { issues: ConfigIssue[] } {
  const result = schema.safeParse(input);
  if (!result.success) {
    return {
      issues: result.error.issues.flatMap((issue) => {
        const path = issue.path as (string | number)[];
        return issue.code === 'unrecognized_keys'
          ? issue.keys.map((key) => ({ path: [...path, key], message: `unknown key ${key}` }))
          : [{ path, message: issue.message }];
      }),
    };
  }
  const issues = crossIssues(result.data);
  return issues.length > 0 ? { issues } : { config: result.data };
}

function crossIssues(config: PgBouncerConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const { blue, green } = config;
  if (blue.host === green.host && blue.port === green.port && blue.dbname === green.dbname) {
    issues.push({ path: ['green'], message: 'the same place as blue: the two could not be told apart' });
  }
  if ((blue.user === undefined) !== (green.user === undefined)) {
    issues.push({ path: ['green', 'user'], message: 'give a user for both sides or for neither' });
  }
  try {
    const url = new URL(config.admin_url);
    const unknown = [...url.searchParams.keys()].filter((key) => key !== 'host');
    if (unknown.length > 0)
      issues.push({ path: ['admin_url'], message: `not understood in the address: ${unknown.join(', ')}` });
    if (url.username === '') issues.push({ path: ['admin_url'], message: 'the address names no user' });
  } catch {
    issues.push({ path: ['admin_url'], message: 'not an address' });
  }
  return issues;
}
