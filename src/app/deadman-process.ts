import { SYSTEM_CLOCK } from '../core/clock.ts';
import type { Session, SessionEnv } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { WriteFence } from '../core/fence.ts';
import type { Logger } from '../core/log.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import {
  decode,
  StandIn,
  TO_DEADMAN,
  Vigil,
  type DeadmanJob,
  type FromDeadman,
  type ToDeadman,
} from '../orchestrator/deadman.ts';
import { writeReport, type DeadmanReport } from './deadman-files.ts';
import { parseFailpoints } from './failpoints.ts';
import { createLogger } from './logger.ts';
import { Redactor } from './redact.ts';
import { loadEngine, loadProxy } from './registry.ts';

const LOOK_MS = 25;
/** Connections are used that often, so that they are open when they are needed. */
const PROBE_EVERY_MS = 500;
const PROBE_MS = 5_000;
/** So many probes in a row must fail before it says that it could not act. */
const PROBES_FAILED = 2;
/** After the end of the engine: for what its servers may still do for it. */
const GRACE_MS = 3_000;
const JOURNAL_MS = 10_000;

/** The dead-man itself: what its process does from its first line of input to its end. */
export class DeadmanProcess {
  readonly #say: (message: FromDeadman) => void;
  readonly #started = performance.now();
  readonly #job = Promise.withResolvers<DeadmanJob | null>();
  /** The pipe of the engine has ended: so has the engine. */
  readonly #ended = new AbortController();
  readonly #disarmed = new AbortController();
  readonly #events: DeadmanReport['events'][number][] = [];
  #vigil: Vigil | null = null;
  #acting = false;
  #trouble: string | null = null;

  constructor(say: (message: FromDeadman) => void) {
    this.#say = say;
  }

  hear(line: string): void {
    const message = decode<ToDeadman>(line, TO_DEADMAN);
    if (message?.kind === 'job') this.#job.resolve(message.job);
    else if (message?.kind === 'disarm') this.#disarmed.abort();
    else if (message?.kind === 'beat') {
      this.#vigil?.heard(performance.now());
      if (!this.#acting) this.#say({ kind: 'watching', beat: message.beat, trouble: this.#trouble });
    }
  }

  inputEnded(): void {
    this.#ended.abort();
    this.#job.resolve(null);
  }

  /** Resolves with the exit code. */
  async run(): Promise<number> {
    const job = await this.#job.promise;
    if (job === null) return 0;
    // Not in the environment it was started with, which others on this machine may read.
    Object.assign(process.env, job.env);
    const log = createLogger({
      level: 'info',
      format: 'json',
      redactor: new Redactor(job.secrets),
    }).child({ migration: job.migration, epoch: job.epoch, pid: process.pid });
    await using held = new AsyncDisposableStack();
    const failpoints = prefixed(parseFailpoints(job.failpoints));
    let armed: { readonly fence: WriteFence; readonly proxies: readonly ProxyAdapter[] };
    try {
      armed = await connect(job, { log, failpoints, held });
    } catch (caught) {
      const { code, message, remedy } = asVerdigrisError(caught);
      log.error({ code }, `not armed: ${message}`);
      this.#say({ kind: 'refused', code, message, remedy });
      return 1;
    }
    await this.#report(job, 'armed', null, log);
    this.#vigil = new Vigil(job.silenceMs, performance.now());
    this.#say({ kind: 'armed', pid: process.pid, ms: performance.now() - this.#started });
    await failpoints.hit('deadman.watching');
    const why = await this.#watch(job, armed, log);
    if (why === null) return 0;
    this.#acting = true;
    this.#say({ kind: 'acting', why });
    return this.#act(job, { ...armed, why, log, failpoints });
  }

  /** Resolves with why the engine is taken for lost, or null when nothing is left to do. */
  async #watch(
    { silenceMs, armedLifeMs }: DeadmanJob,
    armed: { readonly fence: WriteFence; readonly proxies: readonly ProxyAdapter[] },
    log: Logger,
  ): Promise<string | null> {
    const over = new AbortController();
    const probing = this.#probe(armed, over.signal);
    const until = performance.now() + armedLifeMs;
    const told = AbortSignal.any([this.#disarmed.signal, this.#ended.signal]);
    try {
      for (;;) {
        if (this.#disarmed.signal.aborted) return null;
        if (this.#ended.signal.aborted) return 'the engine is gone: its end of the pipe was closed';
        const now = performance.now();
        if (this.#vigil?.silent(now) === true) return `the engine was silent for ${silenceMs} ms`;
        if (now > until) {
          log.error(
            { armedLifeMs },
            'still armed at the end of its life; it ends, which undoes what still runs',
          );
          return null;
        }
        await sleep(LOOK_MS, told);
      }
    } finally {
      over.abort();
      // One that still waits for an answer is left alone.
      void probing;
    }
  }

  /** Keeps the connections open, and knows when they could not be used. */
  async #probe(
    { fence, proxies }: { readonly fence: WriteFence; readonly proxies: readonly ProxyAdapter[] },
    over: AbortSignal,
  ): Promise<void> {
    for (let failed = 0; !over.aborted;) {
      try {
        await probeAll(fence, proxies);
        failed = 0;
        this.#trouble = null;
      } catch (error) {
        if (++failed >= PROBES_FAILED) this.#trouble = asVerdigrisError(error).message;
      }
      await sleep(PROBE_EVERY_MS, over);
    }
  }

  async #act(
    job: DeadmanJob,
    o: {
      readonly fence: WriteFence;
      readonly proxies: readonly ProxyAdapter[];
      readonly why: string;
      readonly log: Logger;
      readonly failpoints: Failpoints;
    },
  ): Promise<number> {
    const { fence, proxies, why, log, failpoints } = o;
    const began = performance.now();
    log.warn({}, `acting: ${why}`);
    // The report must not delay what it reports.
    let writing = this.#report(job, 'acting', why, log);
    await failpoints.hit('deadman.acting');
    const life = AbortSignal.timeout(job.actingLifeMs);
    const standIn = new StandIn({
      from: job.from,
      fence,
      proxies,
      epoch: job.epoch,
      clock: SYSTEM_CLOCK,
      failpoints,
      signal: life,
      note: (event, detail) => {
        this.#events.push({ at: new Date().toISOString(), event, detail });
        log.warn(detail, event);
      },
    });
    const outcome = await standIn.takeBack();
    const ms = Math.round(performance.now() - began);
    log[outcome === 'expired' ? 'error' : 'warn']({ outcome, ms, side: job.from }, SAID[outcome]);
    const written = writing;
    writing = (async () => {
      await written;
      await this.#report(job, outcome, why, log);
      await journal(job, { why, outcome, ms, events: this.#events.length }, log);
    })();
    if (outcome === 'restored') {
      const done = AbortSignal.any([life, this.#disarmed.signal, this.#afterEnd()]);
      // A dead engine points no proxy anywhere; and another one, started since, may.
      await standIn.guard(done, () => !this.#ended.signal.aborted);
    }
    await writing;
    await this.#report(job, outcome, why, log);
    return outcome === 'expired' ? 1 : 0;
  }

  #afterEnd(): AbortSignal {
    const after = new AbortController();
    const end = (): void => void setTimeout(() => after.abort(), GRACE_MS);
    if (this.#ended.signal.aborted) end();
    else this.#ended.signal.addEventListener('abort', end, { once: true });
    return after.signal;
  }

  async #report(
    { migration, epoch, reportFile }: DeadmanJob,
    state: DeadmanReport['state'],
    why: string | null,
    log: Logger,
  ): Promise<void> {
    if (reportFile === null) return;
    try {
      await writeReport(reportFile, { migration, epoch, pid: process.pid, state, why, events: this.#events });
    } catch (error) {
      log.warn({ code: (error as { code?: string }).code }, 'what it does could not be written to its file');
    }
  }
}

const SAID = {
  restored: 'the side that served is open and the proxies work on it',
  sealed: 'the record is sealed: the switch went through, nothing was touched',
  superseded: 'a later attempt stands in the record, nothing was touched',
  expired: 'gave up: run `verdigris recover`, which reads the record and goes on or undoes',
} as const;

async function connect(
  job: DeadmanJob,
  {
    log,
    failpoints,
    held,
  }: { readonly log: Logger; readonly failpoints: Failpoints; readonly held: AsyncDisposableStack },
): Promise<{ readonly fence: WriteFence; readonly proxies: readonly ProxyAdapter[] }> {
  const side = held.use(await openSide(job, job.from, { log, failpoints }));
  const fence = side.fence(job.tables);
  const proxies = await Promise.all(
    job.proxies.map(async ({ name, config }) => {
      const factory = await loadProxy(name);
      if (factory === null) throw new VerdigrisError('INTERNAL', `There is no adapter ${name}.`);
      return held.use(factory.create(config, { log: log.child({ proxy: name }), failpoints }));
    }),
  );
  await probeAll(fence, proxies);
  return { fence, proxies };
}

async function openSide(
  job: DeadmanJob,
  side: 'blue' | 'green',
  { log, failpoints }: Pick<SessionEnv, 'log' | 'failpoints'>,
): Promise<Session> {
  const engine = await loadEngine(job.engine);
  if (engine === null) throw new VerdigrisError('INTERNAL', `There is no engine ${job.engine}.`);
  const { config, stateSchema } = job[side];
  return engine.connect(config, {
    migration: job.migration,
    side,
    stateSchema,
    log: log.child({ side }),
    failpoints,
  });
}

async function probeAll(fence: WriteFence, proxies: readonly ProxyAdapter[]): Promise<void> {
  const signal = AbortSignal.timeout(PROBE_MS);
  const late = Promise.withResolvers<never>();
  signal.addEventListener('abort', () =>
    late.reject(
      new VerdigrisError('TIMED_OUT', `The side that serves did not answer within ${PROBE_MS} ms.`),
    ),
  );
  late.promise.catch(() => undefined);
  await Promise.all([
    Promise.race([fence.state(), late.promise]),
    ...proxies.map((proxy) => proxy.observe(signal)),
  ]);
}

/** Beside the journal of the engine, when green can be reached. */
async function journal(
  job: DeadmanJob,
  detail: Readonly<Record<string, unknown>>,
  log: Logger,
): Promise<void> {
  const written = async (): Promise<void> => {
    await using green = await openSide(job, 'green', { log, failpoints: { hit: () => undefined } });
    await green.state.note(job.migration, 'deadman.acted', { epoch: job.epoch, pid: process.pid, ...detail });
  };
  const late = new AbortController();
  const outOfTime = sleep(JOURNAL_MS, late.signal).then(() => {
    if (!late.signal.aborted)
      throw new VerdigrisError('TIMED_OUT', `Green did not answer within ${JOURNAL_MS} ms.`);
  });
  try {
    await Promise.race([written(), outOfTime]);
  } catch (error) {
    log.warn({ code: asVerdigrisError(error).code }, 'what it did could not be written to the journal');
  } finally {
    late.abort();
  }
}

/** Those of its own are named `deadman.…`; what fence and proxies hit is meant for this process with that prefix only. */
const prefixed = (failpoints: Failpoints): Failpoints => ({
  hit: (name) => failpoints.hit(name.startsWith('deadman.') ? name : `deadman.${name}`),
});

/** Until then or until the signal fires. */
const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  SYSTEM_CLOCK.sleep(ms, signal).catch(() => undefined);
