/** Structured log. Never hand it a row value, a connection string or a secret. */
export interface Logger {
  debug(fields: Readonly<Record<string, unknown>>, message: string): void;
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
  child(fields: Readonly<Record<string, unknown>>): Logger;
}

const silent = (): void => undefined;
export const SILENT: Logger = {
  debug: silent,
  info: silent,
  warn: silent,
  error: silent,
  child: () => SILENT,
};
