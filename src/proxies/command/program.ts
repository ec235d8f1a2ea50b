import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { VerdigrisError } from '../../core/errors.ts';

/** Between the request to end and the end by force. */
const GRACE_MS = 500;
/** What is still in the pipes after the program ended; a daemon that it left behind keeps them open for ever. */
const PIPE_MS = 100;
const MAX_OUTPUT = 1024 * 1024;

export interface ProgramRun {
  /** Names it in errors. */
  readonly what: string;
  /** Program and arguments; no shell reads them. */
  readonly argv: readonly [string, ...string[]];
  /** Given on standard input, which is then closed. */
  readonly input?: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ProgramResult {
  readonly exitCode: number;
  /** May hold secrets: never into a log or an error unless the operator allowed it. */
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end in a process group of its own. When its time is over, or the signal fires, the whole group is asked
 * to end and then ended: nothing of it acts later.
 * @throws VerdigrisError PROXY_TIMEOUT, PROXY_UNEXPECTED (cannot be started, died by a signal, printed too much)
 */
export async function runProgram(run: ProgramRun): Promise<ProgramResult> {
  const { what, argv, signal } = run;
  const fail = (code: 'PROXY_TIMEOUT' | 'PROXY_UNEXPECTED', text: string, cause?: unknown): VerdigrisError =>
    new VerdigrisError(code, `${what} ${text}.`, { cause });
  if (signal.aborted) throw fail('PROXY_TIMEOUT', 'was not started any more', signal.reason);
  const [program, ...args] = argv;
  const child = spawn(program, args, { detached: true, stdio: 'pipe' });
  const output = { stdout: '', stderr: '' };
  let ending: VerdigrisError | null = null;
  let ended: Promise<void> | null = null;
  const stop = (why: VerdigrisError): void => {
    ending ??= why;
    ended ??= endGroup(child.pid);
  };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
      if (output[stream].length > MAX_OUTPUT) stop(fail('PROXY_UNEXPECTED', 'prints without end'));
    });
  }
  // It may end without having read its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(run.input ?? '');
  const late = (): void =>
    stop(fail('PROXY_TIMEOUT', `did not end within its time (${run.timeoutMs} ms or less)`));
  const timer = setTimeout(late, run.timeoutMs);
  signal.addEventListener('abort', late, { once: true });
  try {
    const exit = await new Promise<{ code: number | null; by: string | null }>((resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) =>
        reject(fail('PROXY_UNEXPECTED', `cannot be started (${error.code ?? error.name})`, error)),
      );
      child.once('close', (code, by) => resolve({ code, by }));
      child.once('exit', (code, by) => setTimeout(() => resolve({ code, by }), PIPE_MS));
    });
    // The group may outlive its first process.
    await (ended as Promise<void> | null);
    if (ending !== null) throw ending as VerdigrisError;
    if (exit.code === null) throw fail('PROXY_UNEXPECTED', `was ended by ${exit.by ?? 'a signal'}`);
    return { exitCode: exit.code, ...output };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', late);
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  }
}

async function endGroup(group: number | undefined): Promise<void> {
  if (group === undefined) return;
  if (!(await signalGroup(group, 'TERM'))) return;
  const until = performance.now() + GRACE_MS;
  while (performance.now() < until) {
    await sleep(20);
    if (!(await signalGroup(group, '0'))) return;
  }
  await signalGroup(group, 'KILL');
}

/** False when there is no such group. The shell's own `kill` is on every machine and takes a group. */
function signalGroup(group: number, name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const line = 'kill -s "$1" -- "-$2"';
    const kill = spawn('/bin/sh', ['-c', line, 'sh', name, String(group)], { stdio: 'ignore' });
    kill.once('error', () => resolve(false));
    kill.once('close', (code) => resolve(code === 0));
  });
}
