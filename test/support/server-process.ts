import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { atProcessEnd } from './process-end.ts';
import { runDir } from './run-dir.ts';
import { serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

/** How long a server may take to end after it was asked to, before it is killed. */
const STOP_TIMEOUT_MS = 15_000;

/** One line of the run's ledger: a server process that lives, and who started it. */
export interface LedgerEntry {
  name: string;
  pid: number;
  killSignal: NodeJS.Signals;
  startedBy: number;
}

interface Launch {
  /** What it is, for the ledger and for errors: "PostgreSQL 16". */
  name: string;
  program: string;
  args: readonly string[];
  cwd: string;
  logFile: string;
  /** What ends it at once, without asking its clients: sent when this process ends first. */
  killSignal: NodeJS.Signals;
}

/** The servers this process started and has not ended. They end with it, whatever ends it. */
const alive = new Set<ServerProcess>();
let guarding = false;

/** A server process: logs to a file, is written into the run's ledger while it lives, and is ended by the process that started it. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #launch: Launch;
  readonly #ledgerFile: string;

  private constructor(child: ChildProcess, launch: Launch, pid: number) {
    this.#child = child;
    this.#launch = launch;
    this.#ledgerFile = join(runDir(), 'ledger', `${pid}.json`);
  }

  static async launch(launch: Launch): Promise<ServerProcess> {
    if (!guarding) {
      guarding = true;
      // The folder is registered first, so that it goes after the servers in it.
      runDir();
      atProcessEnd(endAll);
    }
    const log = openSync(launch.logFile, 'a');
    const child = spawn(launch.program, launch.args, {
      ...serverUser(),
      cwd: launch.cwd,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    await once(child, 'spawn');
    const pid = child.pid;
    if (pid === undefined) throw new Error(`${launch.name} has no process id`);
    const server = new ServerProcess(child, launch, pid);
    alive.add(server);
    const entry: LedgerEntry = {
      name: launch.name,
      pid,
      killSignal: launch.killSignal,
      startedBy: process.pid,
    };
    writeFileSync(server.#ledgerFile, JSON.stringify(entry));
    child.once('exit', () => {
      alive.delete(server);
      rmSync(server.#ledgerFile, { force: true });
    });
    return server;
  }

  get pid(): number {
    return this.#child.pid ?? Number.NaN;
  }

  get name(): string {
    return this.#launch.name;
  }

  get killSignal(): NodeJS.Signals {
    return this.#launch.killSignal;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The whole log, for the message of a failed start. */
  log(): string {
    return readFileSync(this.#launch.logFile, 'utf8');
  }

  /** Sends the signal and waits for what it does: the end for SIGKILL, and for SIGSTOP that each thread stands, since until then it may still answer. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    if (!this.running) return;
    if (signal === 'SIGKILL') return this.end(signal);
    this.#child.kill(signal);
    if (signal === 'SIGSTOP')
      await waitFor(() => this.#stands(), { what: `${this.#launch.name} to stand still`, everyMs: 1 });
  }

  #stands(): boolean {
    const tasks = `/proc/${this.pid}/task`;
    return readdirSync(tasks).every((task) => /\) T /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8')));
  }

  /** Sends the signal and waits for the end; a server that does not end in time is killed, and that is an error. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (!this.running) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
    if (this.#child.signalCode === 'SIGKILL' && signal !== 'SIGKILL') {
      throw new Error(
        `${this.#launch.name} did not end within ${STOP_TIMEOUT_MS} ms of ${signal}:\n${this.log()}`,
      );
    }
  }

  /** For the end of this process, when nothing asynchronous runs any more: sends the kill signal and waits until it is gone. */
  endNow(): void {
    killNow(this.pid, this.#launch.killSignal);
    rmSync(this.#ledgerFile, { force: true });
  }
}

/** Sends the signal and blocks until the process is gone, or three seconds have passed. */
export function killNow(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    return;
  }
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let waited = 0; waited < 3_000 && !hasEnded(pid); waited += 10) Atomics.wait(pause, 0, 0, 10);
}

/** Gone, or a zombie that only waits to be reaped. */
function hasEnded(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

/** Ends the servers that this process still has, and names them: at the end of a test file there should be none. */
export async function endLeftovers(): Promise<string[]> {
  const left = [...alive];
  await Promise.all(left.map((server) => server.end(server.killSignal)));
  return left.map((server) => server.name);
}

function endAll(): void {
  for (const server of alive) server.endNow();
  alive.clear();
}
