/** Names of gates, the same everywhere. */
export const GATES = [
  'lag',
  'lag-stable',
  'round-trip',
  'copy-complete',
  'verified',
  'differences',
  'foreign-writes',
  'rejects',
  'long-transactions',
  'ddl',
  'source-health',
  'reverse-path',
  'rehearsed',
  'counters',
  'indexes',
  'constraints',
  'statistics',
  'proxies',
  'approvals',
  'window',
] as const;
export type GateName = (typeof GATES)[number];

/** A gate is data, evaluated all the time; the same code decides for `status`, dry run and the switch. */
export interface GateResult {
  readonly name: GateName;
  readonly ok: boolean;
  readonly observed: string;
  readonly limit: string;
  /** Empty when ok. */
  readonly reason: string;
}

/** What a gate says when what it asks for is decided elsewhere (people, the clock, an earlier rehearsal). */
export type Verdict = Omit<GateResult, 'name'>;

/** One line for refusals: which gate, what was seen, what it asks for. */
export const showGate = ({ name, observed, limit, reason }: GateResult): string =>
  `${name}: ${observed}, limit ${limit}${reason === '' ? '' : ` (${reason})`}`;
