import { engineNames } from '../../app/registry.ts';
import { EXIT_MEANINGS } from '../../app/exit.ts';
import { VERSION } from '../../app/version.ts';
import type { Outcome } from '../context.ts';

export function version(): Outcome {
  const data = { version: VERSION, node: process.version, engines: [...engineNames()] };
  return {
    kind: 'Version',
    data,
    text: `verdigris ${VERSION} (node ${process.version}; engines: ${data.engines.join(', ')})`,
  };
}

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['VERDIGRIS_CONFIG', 'configuration file when --config is not given; default verdigris.yaml'],
  [
    'VERDIGRIS__A__B',
    'value of a.b, stronger than the file: VERDIGRIS__COPY__WORKERS=8; list items by number',
  ],
  [
    'XDG_STATE_HOME',
    'folder of the control socket is $XDG_STATE_HOME/verdigris; default ~/.local/state/verdigris',
  ],
  ['NO_COLOR', 'no colours'],
  ['VERDIGRIS_FAILPOINT', 'tests only: name:action[@n], comma separated; actions exit, throw, hang, stop'],
];

const TOPICS: Readonly<Record<string, () => string>> = {
  'exit-codes': () =>
    Object.entries(EXIT_MEANINGS)
      .map(([code, meaning]) => `${code.padStart(4)}  ${meaning}`)
      .join('\n'),
  env: () => ENVIRONMENT.map(([name, meaning]) => `${name.padEnd(20)}  ${meaning}`).join('\n'),
};

export const TOPIC_NAMES: readonly string[] = Object.keys(TOPICS);

/** A page of the built-in reference; null when there is none of that name. */
export function topic(name: string): Outcome | null {
  const write = Object.hasOwn(TOPICS, name) ? TOPICS[name] : undefined;
  if (!write) return null;
  const text = write();
  return { kind: 'Help', data: { text }, text };
}
