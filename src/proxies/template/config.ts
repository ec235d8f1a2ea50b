import { z } from 'zod';
import type { ConfigIssue } from '../../core/engine.ts';

const path = z.string().regex(/^\/[^\0\r\n]*$/, 'not an absolute path');
// A line break in a value could begin a line of its own in the file.
const value = z.union([
  z.string().refine((text) => !/[\0\r\n]/.test(text), 'holds a line break or NUL'),
  z.int(),
]);
const values = z.record(z.string().regex(/^\w+$/, 'not a name: letters, digits and _'), value);
const timeout = (defaultMs: number) =>
  z
    .int()
    .min(1)
    .default(defaultMs)
    .describe('After this many milliseconds it is ended, with everything it started.');
const show = z
  .boolean()
  .default(false)
  .describe(
    'Its last line of output may stand in errors and logs. Leave it off where the output may hold a secret.',
  );

const argv = z
  .tuple([z.string().min(1)], z.string())
  .describe('Program and arguments. No shell reads them; {{name}} in them is replaced as in the template.');
const shell = z.string().min(1).describe('A line for /bin/sh, as it stands.');

const program = z.union([
  z.strictObject({ command: argv, timeout_ms: timeout(10_000), show_output: show }),
  z.strictObject({ shell, timeout_ms: timeout(10_000), show_output: show }),
]);

/** One entry of `cutover.proxies` with `adapter: template`, without that key: one program that reads a file. */
export const schema = z.strictObject({
  name: z.string().min(1).optional().describe('Names it in messages. Default: the path of the file.'),
  template: path.describe(
    'The template: {{name}} is a value of the side, {{side}} is blue or green, {{state}} is open or paused; {{#paused}}…{{/paused}} (and open, blue, green) is kept only then.',
  ),
  file: path.describe(
    'The file that the program reads. It is replaced atomically; the one before is kept as <file>.verdigris-backup. Today it must be what the template gives for the side that serves.',
  ),
  client_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'not a postgres:// address')
    .optional()
    .describe('Address of an ordinary client of this proxy, for smoke queries through the proxy.'),
  blue: values.describe('Values of blue: host, port, dbname, whatever the template names.'),
  green: values.describe('Values of green, with the same names.'),
  reload: program.describe(
    'Makes the program read the file again. Ends with 0, or the file before is put back.',
  ),
  verify: z
    .union([
      program,
      z.strictObject({
        connect: z.strictObject({ host: z.string().min(1), port: z.int().min(1).max(65_535) }),
        timeout_ms: timeout(2_000),
      }),
    ])
    .describe(
      'Asks what runs now, never the file: a command, or a connection, whose first line is `blue open`, `green paused` and so on; `blue`, `green` and `paused` alone will do.',
    ),
  verify_within_ms: z
    .int()
    .min(1)
    .default(5_000)
    .describe('How long after the reload the answer may still be the old one, milliseconds.'),
  drained: z
    .union([
      program,
      z.strictObject({
        after_ms: z
          .int()
          .min(0)
          .describe('No proof: after this time old connections are believed to be gone.'),
      }),
    ])
    .describe(
      'Asked after every reload: ends with 0 when nothing of the file before takes or has connections any more, with 1 while something does. One that asks the databases instead looks at the other side than {{side}}, and at both when {{state}} is paused.',
    ),
  version: program.optional().describe('Prints the version of the program; for reports only.'),
  promise: z
    .strictObject({
      holds_connections: z
        .boolean()
        .default(false)
        .describe('New connections wait while paused, instead of being refused.'),
      keeps_connections: z.boolean().default(false).describe('Connections of clients survive the switch.'),
      holds_statements: z.boolean().default(false).describe('Statements of existing connections wait.'),
    })
    .default({ holds_connections: false, keeps_connections: false, holds_statements: false })
    .describe('What the program does for clients, as the operator knows it. Default: nothing.'),
});

export type TemplateConfig = z.output<typeof schema>;
export type ProgramConfig = z.output<typeof program>;

/** Checks one entry. Pure. */
export function parseConfig(input: unknown): { config: TemplateConfig } | { issues: ConfigIssue[] } {
  const result = schema.safeParse(input);
  if (!result.success) {
    return {
      issues: result.error.issues.flatMap((issue) => {
        const at = issue.path as (string | number)[];
        return issue.code === 'unrecognized_keys'
          ? issue.keys.map((key) => ({ path: [...at, key], message: `unknown key ${key}` }))
          : [{ path: at, message: issue.message }];
      }),
    };
  }
  const issues = crossIssues(result.data);
  return issues.length > 0 ? { issues } : { config: result.data };
}

function crossIssues({ blue, green, template, file }: TemplateConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  for (const [own, other, side] of [
    [blue, green, 'green'],
    [green, blue, 'blue'],
  ] as const) {
    for (const key of Object.keys(own))
      if (!Object.hasOwn(other, key))
        issues.push({ path: [side, key], message: 'only the other side has this value' });
  }
  if (template === file) issues.push({ path: ['file'], message: 'the template itself would be overwritten' });
  return issues;
}
