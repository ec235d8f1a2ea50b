import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { asVerdigrisError, CODES, VerdigrisError, type Code } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import {
  ACTING_LIFE_MS,
  armedLifeFor,
  Certainty,
  decode,
  encode,
  FROM_DEADMAN,
  silenceFor,
  Vigil,
  type Deadman,
  type DeadmanJob,
  type DeadmanOrder,
  type DeadmanStarter,
  type FromDeadman,
  type ToDeadman,
} from '../orchestrator/deadman.ts';
import { deadmanFiles, removeFiles, type DeadmanFiles } from './deadman-files.ts';
import type { LoadedConfig } from './load.ts';

/** How many beats fit into the silence that is taken for the end. */
const BEATS = 10;
/** It answers `disarm` by ending; one that does not is ended. */
const END_MS = 3_000;

export interface DeadmanSurroundings {
  readonly log: Logger;
  readonly failpoints: Failpoints;
}

/** Makes the process beside the engine that takes a switch back when the engine is lost; one for each attempt. */
export const deadmanStarter =
  (loaded: LoadedConfig, surroundings: DeadmanSurroundings): DeadmanStarter =>
  (order) =>
    new ChildDeadman(loaded, surroundings, order);

/** The engine's end of the pipe. */
class ChildDeadman implements Deadman {
  readonly #loaded: LoadedConfig;
  readonly #log: Logger;
  readonly #failpoints: Failpoints;
  readonly #order: DeadmanOrder;
  readonly #silenceMs: number;
  readonly #files: DeadmanFiles;
  readonly #lost = new AbortController();
  readonly #certainty: Certainty;
  readonly #waiting = new Set<() => void>();
  #vigil: Vigil | null = null;
  #child: ChildProcess | null = null;
  #gone: Promise<void> = Promise.resolve();
  #beating: NodeJS.Timeout | null = null;
  #released = false;
  #acted = false;
  #ending: Promise<void> | null = null;

  constructor(loaded: LoadedConfig, { log, failpoints }: DeadmanSurroundings, order: DeadmanOrder) {
    this.#loaded = loaded;
    this.#log = log;
    this.#failpoints = failpoints;
    this.#order = order;
    this.#silenceMs = silenceFor(order.maxWritePauseMs);
    this.#certainty = new Certainty(this.#silenceMs);
    this.#files = deadmanFiles(loaded);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async arm(signal: AbortSignal): Promise<string> {
    await this.#failpoints.hit('deadman.arm');
    const ready = Promise.withResolvers<FromDeadman & { readonly kind: 'armed' }>();
    ready.promise.catch(() => undefined);
    const child = await this.#start((message) => {
      if (message.kind === 'armed') ready.resolve(message);
      else if (message.kind === 'refused') ready.reject(refusal(message));
    });
    const gaveUp = (): void => ready.reject(asVerdigrisError(signal.reason));
    signal.addEventListener('abort', gaveUp, { once: true });
    void this.#gone.then(() =>
      ready.reject(
        new VerdigrisError('INTERNAL', 'The process of the dead-man ended before it was armed.', {
          remedy: `Read ${this.#files.log}.`,
        }),
      ),
    );
    try {
      signal.throwIfAborted();
      this.#send({ kind: 'job', job: this.#job() });
      const { pid, ms } = await ready.promise;
      this.#vigil = new Vigil(this.#silenceMs, performance.now());
      this.#beat();
      this.#beating = setInterval(() => this.#beat(), this.#silenceMs / BEATS);
      this.#log.info({ pid, epoch: this.#order.epoch, silenceMs: this.#silenceMs }, 'dead-man armed');
      await this.#failpoints.hit('deadman.armed');
      return `process ${pid}, armed in ${Math.round(ms)} ms, takes over after ${this.#silenceMs} ms of silence`;
    } catch (error) {
      await this.disarm();
      // What it said is more than that it ended.
      child.kill('SIGKILL');
      throw error;
    } finally {
      signal.removeEventListener('abort', gaveUp);
    }
  }

  async confirm(signal: AbortSignal): Promise<void> {
    if (this.#vigil === null || this.#released) return;
    while (!this.#lost.signal.aborted && !this.#certainty.holds(performance.now())) {
      signal.throwIfAborted();
      const answered = Promise.withResolvers<void>();
      const wake = (): void => answered.resolve();
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
      this.#beat();
      await answered.promise;
      this.#waiting.delete(wake);
      signal.removeEventListener('abort', wake);
    }
    if (this.#lost.signal.aborted) throw asVerdigrisError(this.#lost.signal.reason);
  }

  disarm(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  abandon(): void {
    const child = this.#child;
    if (this.#released || child === null) return;
    this.#release();
    this.#log.warn({ pid: child.pid, log: this.#files.log }, 'the rest is left to the dead-man');
    child.stdin?.end();
    child.stdout?.destroy();
    child.unref();
    this.#ending = Promise.resolve();
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (this.#released || child === null) return;
    this.#release();
    this.#send({ kind: 'disarm' });
    child.stdin?.end();
    const late = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await this.#gone;
    clearTimeout(late);
    if (this.#acted) return;
    await removeFiles(this.#files).catch((error: unknown) =>
      this.#log.debug({ code: (error as { code?: string }).code }, 'the files of the dead-man stay'),
    );
  }

  /** From here on its end is no loss. */
  #release(): void {
    this.#released = true;
    if (this.#beating !== null) clearInterval(this.#beating);
    this.#wake();
  }

  async #start(onMessage: (message: FromDeadman) => void): Promise<ChildProcess> {
    await using log = await this.#openLog();
    // A source during development, JavaScript in the package.
    const entry = import.meta.url.endsWith('.ts')
      ? new URL('./deadman-main.ts', import.meta.url)
      : new URL('./deadman-main.js', import.meta.url);
    // `detached` makes it the leader of a session of its own: no signal to the group of the engine or to its terminal reaches it.
    const child = spawn(process.execPath, [fileURLToPath(entry)], {
      detached: true,
      stdio: ['pipe', 'pipe', log?.fd ?? 'ignore'],
      // Addresses and passwords may stand in the environment; what it needs of that it gets with its job.
      env: { PATH: process.env['PATH'] ?? '' },
    });
    this.#child = child;
    const gone = Promise.withResolvers<void>();
    this.#gone = gone.promise;
    let problem: string | null = null;
    child.on('error', (error) => {
      problem = error.message;
      gone.resolve();
    });
    child.stdin?.on('error', () => undefined);
    child.stdout?.on('error', () => undefined);
    child.on('exit', (code, signal) => {
      problem ??= signal ?? `exit code ${code}`;
      gone.resolve();
    });
    void gone.promise.then(() => this.#lose(`The dead-man ended by itself (${problem ?? 'unknown'}).`));
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const message = decode<FromDeadman>(line, FROM_DEADMAN);
        if (message === null) return;
        this.#hear(message);
        onMessage(message);
      });
    }
    return child;
  }

  #hear(message: FromDeadman): void {
    this.#vigil?.heard(performance.now());
    if (message.kind === 'watching') {
      this.#certainty.answered(message.beat);
      if (message.trouble !== null) this.#lose(`The dead-man could not act any more: ${message.trouble}`);
    } else if (message.kind === 'acting') {
      this.#acted = true;
      this.#lose(`The dead-man has taken over: ${message.why}`);
    }
    this.#wake();
  }

  #beat(): void {
    const now = performance.now();
    if (this.#vigil?.silent(now) === true) {
      this.#lose(`The dead-man did not answer for ${this.#silenceMs} ms.`);
      return;
    }
    this.#send({ kind: 'beat', beat: this.#certainty.send(now) });
  }

  #lose(message: string): void {
    if (this.#released || this.#lost.signal.aborted || this.#vigil === null) return;
    this.#log.error({ epoch: this.#order.epoch }, message);
    this.#lost.abort(
      new VerdigrisError('CUTOVER_UNDONE', message, {
        remedy: `The side that served serves. Read ${this.#files.log} on this machine for what it did, then try again.`,
      }),
    );
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  #send(message: ToDeadman): void {
    if (this.#child?.stdin?.writable === true) this.#child.stdin.write(encode(message));
  }

  #job(): DeadmanJob {
    const { config, engine, blue, green, proxies, secrets } = this.#loaded;
    const { epoch, from, tables, maxWritePauseMs } = this.#order;
    return {
      migration: config.migration,
      engine: engine.name,
      from,
      blue,
      green,
      proxies: proxies.map(({ factory, config: own }) => ({ name: factory.name, config: own })),
      tables,
      epoch,
      silenceMs: this.#silenceMs,
      armedLifeMs: armedLifeFor(maxWritePauseMs),
      actingLifeMs: ACTING_LIFE_MS,
      secrets,
      env: Object.fromEntries(
        Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
      ),
      failpoints: process.env['VERDIGRIS_FAILPOINT'] ?? '',
      reportFile: this.#files.report,
    };
  }

  /** Without a folder for it there is no log; it is armed all the same. */
  async #openLog(): Promise<FileHandle | undefined> {
    try {
      await mkdir(dirname(this.#files.log), { recursive: true, mode: 0o700 });
      return await open(this.#files.log, 'a', 0o600);
    } catch (error) {
      this.#log.warn(
        { file: this.#files.log, code: (error as { code?: string }).code },
        'no log for the dead-man',
      );
      return undefined;
    }
  }
}

const refusal = ({ code, message, remedy }: FromDeadman & { readonly kind: 'refused' }): VerdigrisError =>
  new VerdigrisError(Object.hasOwn(CODES, code) ? (code as Code) : 'INTERNAL', message, { remedy });
