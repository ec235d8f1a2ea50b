/** Exit code of each signal by the usual convention. */
const CODES = { SIGINT: 130, SIGTERM: 143 } as const;
export type StopSignal = keyof typeof CODES;

export interface ShutdownOptions {
  /** Saves and closes. Called once, on the first signal. */
  readonly close: (signal: StopSignal) => Promise<void>;
  /** Default: ends this process. */
  readonly exit?: (code: number) => void;
}

/**
 * Ends the process cleanly on the first SIGINT or SIGTERM and at once on the second. Disposing takes the handlers off
 * again.
 */
export function onShutdown(options: ShutdownOptions): Disposable {
  const exit = options.exit ?? ((code: number): void => process.exit(code));
  let stopping = false;
  const handlers = (Object.keys(CODES) as StopSignal[]).map((signal) => {
    const handle = (): void => {
      if (stopping) {
        exit(CODES[signal]);
        return;
      }
      stopping = true;
      const done = (): void => exit(CODES[signal]);
      options.close(signal).then(done, done);
    };
    process.on(signal, handle);
    return { signal, handle };
  });
  return {
    [Symbol.dispose]: () => {
      for (const { signal, handle } of handlers) process.off(signal, handle);
    },
  };
}
