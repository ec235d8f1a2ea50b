import type { z } from 'zod';
import { VerdigrisError } from '../../core/errors.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { Logger } from '../../core/log.ts';
import type { ProxyAdapter, ProxyPromise, ProxyReport, Route } from '../../core/proxy.ts';
import { queryAsClient } from './client.ts';
import type { CommandConfig } from './config.ts';
import { runProgram, type ProgramResult } from './program.ts';
import {
  ActAnswer,
  EXIT,
  FailureAnswer,
  ObserveAnswer,
  ProbeAnswer,
  PROTOCOL,
  type Request,
} from './protocol.ts';

type Observed = z.output<typeof ObserveAnswer>;

/** A proxy that a program of the operator drives: one process for each action, nothing kept between them. */
export class CommandProxy implements ProxyAdapter {
  readonly name: string;
  readonly promise: ProxyPromise;
  readonly query?: (sql: string, signal: AbortSignal) => Promise<string | null>;
  readonly #config: CommandConfig;
  readonly #log: Logger;
  readonly #failpoints: Failpoints;

  constructor(config: CommandConfig, env: { readonly log: Logger; readonly failpoints: Failpoints }) {
    this.#config = config;
    const url = config.client_url;
    if (url !== undefined) this.query = (sql, signal) => queryAsClient(url, sql, signal);
    this.name = `command ${config.name ?? config.command[0]}`;
    this.promise = {
      holdsStatements: config.promise.holds_statements,
      keepsConnections: config.promise.keeps_connections,
      holdsConnections: config.promise.holds_connections,
    };
    this.#log = env.log.child({ proxy: this.name });
    this.#failpoints = env.failpoints;
  }

  async probe(signal: AbortSignal): Promise<ProxyReport> {
    const { version, holdsForMs, findings } = await this.#ask({ action: 'probe' }, ProbeAnswer, signal);
    return { name: this.name, version, ...(holdsForMs === undefined ? {} : { holdsForMs }), findings };
  }

  async observe(signal: AbortSignal): Promise<Route> {
    const { to, paused, detail } = await this.#observed(signal);
    return to === 'blue' || to === 'green' ? { to, paused } : { to, paused, detail };
  }

  async pause(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.command.pause');
    await this.#ask({ action: 'pause' }, ActAnswer, signal);
    await this.#confirmed('pause', signal, ({ paused }) => paused);
    this.#log.info({}, 'paused and drained');
  }

  async route(side: 'blue' | 'green', epoch: number, signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.command.route');
    await this.#ask({ action: 'route', side, epoch }, ActAnswer, signal);
    await this.#confirmed(`route to ${side}`, signal, ({ to }) => to === side);
    this.#log.info({ side, epoch }, 'routed');
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.command.resume');
    await this.#ask({ action: 'resume' }, ActAnswer, signal);
    await this.#confirmed('resume', signal, ({ paused }) => !paused);
    this.#log.info({}, 'resumed');
  }

  async waiting(signal: AbortSignal): Promise<number | null> {
    return (await this.#observed(signal)).waiting;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A program ends with the call that started it.
  }

  #observed(signal: AbortSignal): Promise<Observed> {
    return this.#ask({ action: 'observe' }, ObserveAnswer, signal);
  }

  /** That it ended with 0 is not yet proof. */
  async #confirmed(what: string, signal: AbortSignal, holds: (shown: Observed) => boolean): Promise<void> {
    const shown = await this.#observed(signal);
    if (holds(shown)) return;
    throw new VerdigrisError(
      'PROXY_UNEXPECTED',
      `${this.name}: ${what} ended with 0, but observe says ${shown.to}${shown.paused ? ', paused' : ''}.`,
      { remedy: 'The program must end with 0 only when it is so.' },
    );
  }

  async #ask<Schema extends z.ZodType>(
    wanted: Pick<Request, 'action'> & Partial<Request>,
    schema: Schema,
    signal: AbortSignal,
  ): Promise<z.output<Schema>> {
    const { command, timeout_ms } = this.#config;
    const request: Request = {
      protocol: PROTOCOL,
      side: null,
      epoch: null,
      deadlineMs: timeout_ms,
      ...wanted,
    };
    const what = `${this.name}: ${request.action}`;
    const input = `${JSON.stringify(request)}\n`;
    const result = await runProgram({ what, argv: command, input, timeoutMs: timeout_ms, signal });
    if (result.exitCode !== 0) throw this.#failure(what, result);
    const answer = schema.safeParse(parsedJson(result.stdout));
    if (answer.success) return answer.data;
    const places = answer.error.issues.map((issue) => issue.path.join('.') || 'the answer').join(', ');
    // Not the answer itself: what does not fit the contract may be anything.
    throw new VerdigrisError(
      'PROXY_UNEXPECTED',
      `${what} printed no answer of protocol ${PROTOCOL}: ${places}.`,
      {
        remedy:
          'It must print one JSON object on standard output and nothing else; messages go to standard error.',
      },
    );
  }

  #failure(what: string, { exitCode, stdout, stderr }: ProgramResult): VerdigrisError {
    const said = FailureAnswer.safeParse(parsedJson(stdout));
    const line = this.#config.show_output ? (stderr.trim().split('\n').at(-1)?.trim() ?? '') : '';
    const why = (said.success ? said.data.error : line).slice(0, 300).replace(/\.$/, '');
    const code =
      exitCode === EXIT.unreachable
        ? 'PROXY_UNREACHABLE'
        : exitCode === EXIT.outOfTime
          ? 'PROXY_TIMEOUT'
          : 'PROXY_UNEXPECTED';
    return new VerdigrisError(code, `${what} ended with ${exitCode}${why === '' ? '' : `: ${why}`}.`, {
      ...(said.success && said.data.remedy !== undefined ? { remedy: said.data.remedy.slice(0, 300) } : {}),
      context: { exitCode },
    });
  }
}

/** Null for what is no JSON, which fits no answer. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
