import { STEPS, type StepName } from '../../../src/cutover/step.ts';
import type { FrontName } from './front.ts';

/**
 * `kill`: SIGKILL of the engine · `freeze`: SIGSTOP for a minute, and another engine takes the run over · `kill-*`: a crash of a server,
 * or SIGKILL of the proxy, started again when the engine has come to something · `cut-*`: the engine's connections there are cut and
 * refused until then.
 */
export const FAULTS = [
  'kill',
  'freeze',
  'kill-blue',
  'kill-green',
  'kill-proxy',
  'cut-blue',
  'cut-green',
  'cut-proxy',
] as const;
export const DIRECTIONS = ['switch', 'rollback'] as const;
export type Direction = (typeof DIRECTIONS)[number];
export type Fault = (typeof FAULTS)[number];

/** One cell of the matrix: what happens, where in a switch, behind which proxy. */
export interface KillCase {
  readonly front: FrontName;
  readonly direction: Direction;
  readonly fault: Fault;
  /** Failpoint at which it happens. */
  readonly point: string;
}

export const caseId = ({ front, direction, fault, point }: KillCase): string =>
  `${front} ${direction} ${fault} ${point}`;

/** Every boundary between two steps. */
export const boundaries = (): string[] =>
  STEPS.flatMap((step) => [`cutover.step.${step}.before`, `cutover.step.${step}.after`]);

/** Places inside steps. */
const INSIDE = [
  'deadman.arm',
  'deadman.armed',
  'fence.raise.locked',
  'fence.raise.committed',
  'fence.seal.before_commit',
  'fence.seal.committed',
];
const OF_PROXY: Readonly<Record<FrontName, readonly string[]>> = {
  pgbouncer: ['pause', 'route', 'reload', 'resume'],
  haproxy: ['pause', 'route', 'resume'],
  template: ['pause', 'route', 'reload', 'resume'],
};

/** Where something else than the engine is lost: at the beginning of each step that acts on it. */
const ACTS: readonly StepName[] = [
  'arm',
  'pause',
  'fence',
  'prove',
  'drain',
  'counters',
  'route',
  'seal',
  'open',
  'resume',
];
/** Where the engine is frozen: each of them with another act still to come. */
const FROZEN: readonly StepName[] = ['fence', 'route', 'seal', 'open', 'resume'];

const before = (step: StepName): string => `cutover.step.${step}.before`;

/** Everything the matrix asks, proxy by proxy and direction by direction. */
export const allCases = (fronts: readonly FrontName[]): KillCase[] =>
  fronts.flatMap((front) => DIRECTIONS.flatMap((direction) => casesOf(front, direction)));

function casesOf(front: FrontName, direction: Direction): KillCase[] {
  const at = (fault: Fault, points: readonly string[]): KillCase[] =>
    points.map((point) => ({ front, direction, fault, point }));
  const others = FAULTS.filter((fault) => fault !== 'kill' && fault !== 'freeze')
    // The console of the others is a local socket, or a command: there is nothing to cut.
    .filter((fault) => fault !== 'cut-proxy' || front === 'pgbouncer');
  return [
    ...at('kill', [...boundaries(), ...INSIDE, ...OF_PROXY[front].map((act) => `proxy.${front}.${act}`)]),
    ...at('freeze', FROZEN.map(before)),
    ...others.flatMap((fault) => at(fault, ACTS.map(before))),
  ];
}
