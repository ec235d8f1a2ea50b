import { VerdigrisError } from '../core/errors.ts';
import { NO_FAILPOINTS, type Failpoints } from '../core/failpoint.ts';

const ACTIONS = ['exit', 'throw', 'hang', 'stop'] as const;
type Action = (typeof ACTIONS)[number];

interface Armed {
  readonly action: Action;
  /** The n-th time it is reached. */
  readonly at: number;
  reached: number;
}

/**
 * Reads `name:action[@n]`, comma separated. `exit` dies as by SIGKILL (nothing is flushed or closed), `throw` rejects,
 * `hang` never answers, `stop` freezes the whole process until SIGCONT.
 * @throws VerdigrisError USAGE
 */
export function parseFailpoints(text: string | undefined): Failpoints {
  if (text === undefined || text.trim() === '') return NO_FAILPOINTS;
  const armed = new Map<string, Armed>();
  for (const part of text.split(',')) {
    const match = /^\s*([\w.-]+):(\w+)(?:@(\d+))?\s*$/.exec(part);
    const action = ACTIONS.find((known) => known === match?.[2]);
    if (!match || !action) {
      throw new VerdigrisError('USAGE', `VERDIGRIS_FAILPOINT: ${part.trim()} is not name:action[@n]`, {
        remedy: `Actions: ${ACTIONS.join(', ')}.`,
      });
    }
    armed.set(match[1] as string, { action, at: Number(match[3] ?? 1), reached: 0 });
  }
  return {
    hit: (name) => {
      const point = armed.get(name);
      if (!point || ++point.reached !== point.at) return undefined;
      return act(name, point.action);
    },
  };
}

function act(name: string, action: Action): Promise<void> | void {
  switch (action) {
    case 'exit':
      process.kill(process.pid, 'SIGKILL');
      // The signal may arrive a moment later; nothing after the failpoint may run until then.
      return new Promise(() => undefined);
    case 'stop':
      process.kill(process.pid, 'SIGSTOP');
      return undefined;
    case 'hang':
      return new Promise(() => undefined);
    case 'throw':
      throw new VerdigrisError('INTERNAL', `failpoint ${name}`, { remedy: 'Unset VERDIGRIS_FAILPOINT.' });
  }
}
