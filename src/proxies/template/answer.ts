import { connect } from 'node:net';
import { VerdigrisError } from '../../core/errors.ts';
import type { ProgramConfig, TemplateConfig } from './config.ts';
import { runProgram, type ProgramResult } from './program.ts';
import { render, type Setting, type Side, type State } from './render.ts';

/** What runs now, as far as it says so. */
export interface Answer {
  readonly side: Side | null;
  readonly state: State;
}

/** More than one line of a few words is not an answer. */
const MAX_ANSWER = 256;

/** Null: the line says nothing that is understood. */
export function parseAnswer(text: string): Answer | null {
  const line = text.trim().split('\n', 1)[0]?.trim() ?? '';
  const match = /^(?:(blue|green)(?: (open|paused))?|(paused))$/.exec(line);
  if (!match) return null;
  return {
    side: (match[1] as Side | undefined) ?? null,
    state: (match[2] as State | undefined) ?? (match[3] === undefined ? 'open' : 'paused'),
  };
}

export interface Surroundings {
  readonly name: string;
  readonly config: TemplateConfig;
  /** What {{…}} in arguments stands for. */
  readonly setting: Setting;
  readonly signal: AbortSignal;
}

/** Runs one of the operator's programs. @throws VerdigrisError PROXY_TIMEOUT, PROXY_UNEXPECTED */
export function runConfigured(
  what: string,
  program: ProgramConfig,
  { name, config, setting, signal }: Surroundings,
): Promise<ProgramResult> {
  const argv: readonly [string, ...string[]] =
    'shell' in program
      ? ['/bin/sh', '-c', program.shell]
      : [
          program.command[0],
          ...program.command.slice(1).map((arg) => render(arg, setting, config[setting.side])),
        ];
  return runProgram({ what: `${name}: ${what}`, argv, timeoutMs: program.timeout_ms, signal });
}

/** How a program ended, with its last line where the operator allows it. */
export function endOf(program: ProgramConfig, { exitCode, stdout, stderr }: ProgramResult): string {
  const line = `${stdout}\n${stderr}`.trim().split('\n').at(-1)?.trim().slice(0, 300) ?? '';
  return program.show_output && line !== '' ? `ended with ${exitCode}: ${line}` : `ended with ${exitCode}`;
}

/** Asks what runs. @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT, PROXY_UNEXPECTED */
export async function askWhatRuns(around: Surroundings): Promise<Answer | null> {
  const { verify } = around.config;
  if ('connect' in verify) return parseAnswer(await firstWords(verify.connect, verify.timeout_ms, around));
  const result = await runConfigured('verify', verify, around);
  if (result.exitCode === 0) return parseAnswer(result.stdout);
  throw new VerdigrisError('PROXY_UNEXPECTED', `${around.name}: verify ${endOf(verify, result)}.`);
}

/** What a server says by itself, up to its first line break or its end. */
function firstWords(
  to: { readonly host: string; readonly port: number },
  timeoutMs: number,
  { name, signal }: Surroundings,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const bound = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    let text = '';
    const socket = connect(to);
    const place = `${to.host}:${to.port}`;
    const settle = (act: () => void): void => {
      bound.removeEventListener('abort', late);
      socket.destroy();
      act();
    };
    const fail = (code: 'PROXY_UNREACHABLE' | 'PROXY_TIMEOUT', what: string, cause?: unknown): void =>
      settle(() => reject(new VerdigrisError(code, `${name}: ${place} ${what}.`, { cause })));
    const late = (): void => fail('PROXY_TIMEOUT', 'did not say in time what runs', bound.reason);
    socket.setEncoding('utf8');
    socket.on('data', (words: Buffer | string) => {
      text += words.toString();
      if (text.includes('\n') || text.length > MAX_ANSWER) settle(() => resolve(text.slice(0, MAX_ANSWER)));
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      fail('PROXY_UNREACHABLE', `cannot be reached (${error.code ?? error.name})`, error),
    );
    socket.on('close', () => settle(() => resolve(text)));
    if (bound.aborted) late();
    else bound.addEventListener('abort', late, { once: true });
  });
}
