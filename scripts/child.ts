import { spawn } from 'node:child_process';
import { delimiter } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const PATH = [`${ROOT}node_modules/.bin`, process.env['PATH'] ?? ''].join(delimiter);

export interface Ended {
  code: number;
  /** What it printed, when that was captured. */
  output: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Keep the output back instead of showing it as it comes. */
  capture?: boolean;
}

/** Runs a program of node_modules/.bin to its end. Signals to this process go on to it, so nothing outlives us. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      env: { ...process.env, PATH, ...options.env },
      stdio: options.capture === true ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    });
    let output = '';
    child.stdout?.on('data', (piece: Buffer) => (output += piece.toString()));
    child.stderr?.on('data', (piece: Buffer) => (output += piece.toString()));
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, pass);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      for (const one of signals) process.off(one, pass);
      resolve({ code: code ?? (signal === null ? 1 : 128), output });
    });
  });
}
