#!/usr/bin/env node
import { createInterface } from 'node:readline/promises';
import { runCli } from './program.ts';

// A closed pipe (`verdigris events | head`) is an ordinary end, not a crash.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const ask = async (question: string): Promise<string> => {
  // Questions go to stderr, so that stdout stays what was asked for.
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question);
  } finally {
    lines.close();
  }
};

const code = await runCli(process.argv.slice(2), {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  // Some pseudo terminals have no size; a block that is redrawn would be cut to nothing there.
  live: process.stdout.isTTY === true && process.stdout.rows > 0 && process.env['TERM'] !== 'dumb',
  color: process.stderr.isTTY === true,
  ask: process.stdin.isTTY === true && process.stderr.isTTY === true ? ask : null,
  env: process.env,
});

// A pipe takes writes in its own time: what was printed must be out before the process ends.
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
  ),
);
process.exit(code);
