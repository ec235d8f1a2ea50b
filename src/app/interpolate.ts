import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative `${file:…}` start here. */
  readonly folder: string;
  /** Whether `${cmd:…}` may run. */
  readonly allowExec: boolean;
}

export type Interpolated =
  | {
      readonly text: string;
      /** Something was put in. */
      readonly touched: boolean;
      /** It holds the content of a file or the output of a command. */
      readonly secret: boolean;
    }
  | { readonly problem: string };

const TOKEN = /\$\$\{|\$\{([^}]*)(\}|$)/g;

/**
 * Puts `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${file:/path}` and, where allowed, `${cmd:…}` into one string;
 * `$${` is a literal `${`. It works on values that are already parsed, so what is put in cannot add keys or change types.
 */
export function interpolate(text: string, surroundings: Surroundings): Interpolated {
  let touched = false;
  let secret = false;
  let problem: string | null = null;
  const result = text.replace(TOKEN, (token: string, body: string | undefined, end: string | undefined) => {
    if (token === '$${') return '${';
    touched = true;
    if (end !== '}' || body === undefined) {
      problem ??= 'a ${ without }; write $${ for a literal one';
      return '';
    }
    const outcome = reference(body, surroundings);
    if ('problem' in outcome) {
      problem ??= outcome.problem;
      return '';
    }
    secret ||= outcome.secret;
    return outcome.text;
  });
  return problem === null ? { text: result, touched, secret } : { problem };
}

type Reference = { readonly text: string; readonly secret: boolean } | { readonly problem: string };

function reference(body: string, { env, folder, allowExec }: Surroundings): Reference {
  if (body.startsWith('file:')) {
    const path = resolve(folder, body.slice('file:'.length));
    try {
      return { text: readFileSync(path, 'utf8').replace(/\r?\n$/, ''), secret: true };
    } catch (error) {
      return {
        problem: `the file ${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'})`,
      };
    }
  }
  if (body.startsWith('cmd:')) {
    if (!allowExec) return { problem: '${cmd:…} runs a program and needs --allow-exec' };
    try {
      const output = execFileSync('/bin/sh', ['-c', body.slice('cmd:'.length)], {
        encoding: 'utf8',
        timeout: 10_000,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return { text: output.replace(/\r?\n$/, ''), secret: true };
    } catch {
      return { problem: 'the command of ${cmd:…} failed or took longer than 10 s' };
    }
  }
  const match = /^([A-Za-z_]\w*)(?::([-?])(.*))?$/s.exec(body);
  if (!match)
    return { problem: 'this ${…} is none of ${VAR}, ${VAR:-default}, ${VAR:?message}, ${file:/path}' };
  const [, name = '', operator, rest = ''] = match;
  const value = env[name];
  if (operator === undefined) {
    return value === undefined
      ? { problem: `the environment variable ${name} is not set` }
      : { text: value, secret: false };
  }
  if (value !== undefined && value !== '') return { text: value, secret: false };
  if (operator === '-') return { text: rest, secret: false };
  return { problem: `the environment variable ${name} is not set${rest === '' ? '' : `: ${rest}`}` };
}
