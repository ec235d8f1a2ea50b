/**
 * Entry of the process that takes a switch back when its engine is lost. Started by `deadman.ts`, in a session of its own. Its
 * life is bounded by its job: it ends when it is disarmed, when it has acted, or when its time is over.
 */
import { createInterface } from 'node:readline';
import { encode } from '../orchestrator/deadman.ts';
import { DeadmanProcess } from './deadman-process.ts';

// Who stops the engine sends this to everything of it; whether there is something to take back only the end of the pipe tells.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
// The engine, and with it the other end, may be gone.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

const deadman = new DeadmanProcess((message) => void process.stdout.write(encode(message)));
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => deadman.hear(line));
lines.on('close', () => deadman.inputEnded());
process.stdin.on('error', () => deadman.inputEnded());

let code = 70;
try {
  code = await deadman.run();
} catch (error) {
  process.stderr.write(
    `${JSON.stringify({ level: 'error', msg: error instanceof Error ? error.message : 'failed' })}\n`,
  );
}
process.exit(code);
