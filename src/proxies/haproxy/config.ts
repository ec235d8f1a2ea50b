import { isIP } from 'node:net';
import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';

/** What HAProxy takes as a name; anything else could end a command of the runtime API and begin another. */
const name = z.string().regex(/^[A-Za-z0-9_.:-]+$/, 'not a name that HAProxy takes');

const side = z.strictObject({
  server: name.describe('Name of the server line, the same in every backend.'),
  host: z
    .string()
    .refine((text) => isIP(text) !== 0, 'not an IP address; the runtime API shows and takes no names')
    .optional()
    .describe(
      'Address that this server must have. It is set when the route is set, and anything else counts as unknown. Absent: the address of the file is taken as it is.',
    ),
  port: z.int().min(1).max(65_535).optional().describe('Port of that address; goes with host.'),
});

/** One entry of `cutover.proxies` with `adapter: haproxy`, without that key: one HAProxy process. */
export const schema = z.strictObject({
  socket: z
    .string()
    .regex(
      /^(\/[^\0\r\n]+|(\[[0-9a-fA-F:]+\]|[^\s:/[\]]+):\d{1,5})$/,
      'neither an absolute path nor host:port',
    )
    .describe('Stats socket with `level admin`: path of a unix socket, or host:port.'),
  client_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .optional()
    .describe('Address of an ordinary client of this HAProxy, for smoke queries through the proxy.'),
  backends: z
    .array(name)
    .min(1)
    .refine((names) => new Set(names).size === names.length, 'a backend is named twice')
    .describe('Backends that are switched together. Each has the three servers blue, green and hold.'),
  blue: side.describe('Server of blue: a `backup` server.'),
  green: side.describe('Server of green: a `backup` server, `disabled` in the file while blue serves.'),
  hold: name
    .default('hold')
    .describe(
      'Server that is not `backup`, is `disabled` in the file, has no check and an address that refuses connections at once. While it is ready new connections try it again and again (`retries`, `option redispatch 1`) instead of reaching blue or green.',
    ),
  drain_ms: z
    .int()
    .min(0)
    .default(1_000)
    .describe(
      'How long sessions may end by themselves before they are ended, milliseconds; part of the write pause.',
    ),
  holds_for_ms: z
    .int()
    .min(1)
    .optional()
    .describe(
      'How long a new connection is held at most: `retries` times the smaller of `timeout connect` and 1 s. The runtime API does not show it.',
    ),
  state_file: z
    .string()
    .regex(/^\/[^\0\r\n]+$/, 'not an absolute path')
    .optional()
    .describe(
      'The `server-state-file` of the global section, written after every act, so that a reload of HAProxy does not go back to blue.',
    ),
});

export type HaproxyConfig = z.output<typeof schema>;

/** Checks one entry. Pure. */
export function parseConfig(input: unknown): { config: HaproxyConfig } | { issues: ConfigIssue[] } {
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

function crossIssues(config: HaproxyConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const { blue, green, hold } = config;
  if (blue.server === green.server)
    issues.push({
      path: ['green', 'server'],
      message: 'the same server as blue: the two could not be told apart',
    });
  if (hold === blue.server || hold === green.server)
    issues.push({ path: ['hold'], message: 'the server that holds must be a third one' });
  for (const side of ['blue', 'green'] as const) {
    if ((config[side].host === undefined) !== (config[side].port === undefined))
      issues.push({ path: [side, 'port'], message: 'give host and port, or neither' });
  }
  return issues;
}
