import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';

/** One entry of `cutover.proxies` with `adapter: command`, without that key: one proxy behind a program of the operator. */
export const schema = z.strictObject({
  name: z.string().min(1).optional().describe('Names it in messages. Default: the path of the program.'),
  command: z
    .tuple([z.string().min(1)], z.string())
    .describe(
      'Program and arguments; no shell reads them. It gets one JSON object on standard input and prints one, see src/proxies/command/README.md.',
    ),
  timeout_ms: z
    .int()
    .min(1)
    .default(30_000)
    .describe('Longest time for one action, milliseconds; then its whole process group is ended.'),
  show_output: z
    .boolean()
    .default(false)
    .describe(
      'The last line of its standard error may stand in errors. Leave it off where that may hold a secret.',
    ),
  client_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .optional()
    .describe('Address of an ordinary client of this proxy, for smoke queries through the proxy.'),
  promise: z
    .strictObject({
      holds_statements: z.boolean().default(false).describe('Statements of existing connections wait.'),
      holds_connections: z
        .boolean()
        .default(false)
        .describe('New connections wait while paused, instead of being refused.'),
      keeps_connections: z.boolean().default(false).describe('Connections of clients survive the switch.'),
    })
    .default({ holds_statements: false, holds_connections: false, keeps_connections: false })
    .describe('What the proxy does for clients, as the author of the program knows it. Default: nothing.'),
});

export type CommandConfig = z.output<typeof schema>;

/** Checks one entry. Pure. */
export function parseConfig(input: unknown): { config: CommandConfig } | { issues: ConfigIssue[] } {
  const result = schema.safeParse(input);
  if (result.success) return { config: result.data };
  return {
    issues: result.error.issues.flatMap((issue) => {
      const path = issue.path as (string | number)[];
      return issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => ({ path: [...path, key], message: `unknown key ${key}` }))
        : [{ path, message: issue.message }];
    }),
  };
}
