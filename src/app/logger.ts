import { styleText } from 'node:util';
import pino from 'pino';
import type { Logger } from '../core/log.ts';
import type { Redactor } from './redact.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
  readonly redactor: Redactor;
  readonly color?: boolean;
  /** Default: stderr. */
  readonly write?: (line: string) => void;
}

const LEVEL_NAMES: Readonly<Record<number, 'debug' | 'info' | 'warn' | 'error'>> = {
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
};
const COLORS = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const;

/** The log of this process: one JSON object or one line of text per entry, without secrets. */
export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? ((line: string): void => void process.stderr.write(line));
  const stream = {
    write: (line: string): void =>
      write(options.format === 'json' ? line : textLine(line, options.color ?? false)),
  };
  const root = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return wrap(root, options.redactor);
}

function wrap(log: pino.Logger, redactor: Redactor): Logger {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (fields: Readonly<Record<string, unknown>>, message: string): void => {
      if (!log.isLevelEnabled(level)) return;
      log[level](redactor.value(fields) as Record<string, unknown>, redactor.text(message));
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(log.child(redactor.value(fields) as Record<string, unknown>), redactor),
  };
}

function textLine(line: string, color: boolean): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const name = (typeof level === 'number' ? LEVEL_NAMES[level] : level) as keyof typeof COLORS;
  const label = name.toUpperCase().padEnd(5);
  const shown = color ? styleText(COLORS[name] ?? 'white', label, { validateStream: false }) : label;
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${fieldText(value)}`);
  return `${String(time).slice(11, 23)} ${shown} ${String(msg ?? '')}${rest.join('')}\n`;
}

const fieldText = (value: unknown): string => {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /[\s="]/.test(text) && typeof value === 'string' ? JSON.stringify(text) : text;
};
