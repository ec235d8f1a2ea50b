import type { Side } from '../core/engine.ts';
import type { GateName, GateResult, Verdict } from '../core/gate.ts';
import type { ProxyReport, Route } from '../core/proxy.ts';
import type { SourceHealth } from '../core/source.ts';
import type { GateOverride } from './context.ts';
import { VerdigrisError } from '../core/errors.ts';

/** What is known now. Null means not known, and keeps the gate shut. Times in ms. */
export interface GateFacts {
  /** The side that serves and would stop: blue before a switch, green before a rollback. */
  readonly from: Side;
  readonly lagMs: number | null;
  /** How long the lag has been within its limit without a break. */
  readonly lagStableForMs: number | null;
  /** Newest mark: from writing it until it was applied on the other side. */
  readonly roundTripMs: number | null;
  readonly copyComplete: boolean | null;
  readonly holes: number | null;
  readonly verification: { readonly ageMs: number | null; readonly differences: number | null };
  /**
   * Writes to green that are not ours, from its own log, since a verification last found both sides equal. Null: the engine cannot
   * tell. `blind`: why the log is not read, or null.
   */
  readonly foreignWrites: {
    readonly blind: string | null;
    readonly count: number;
    readonly named: readonly string[];
  } | null;
  readonly rejects: number | null;
  /** Age of the oldest open transaction on that side; 0 when none is open. */
  readonly oldestTransactionMs: number | null;
  /** Layout changes, manual or anti-wraparound vacuums, prepared transactions on mapped tables: what would block the fence. */
  readonly ddlInProgress: readonly string[] | null;
  readonly source: SourceHealth | null;
  /** Counters of that side for which no counter on the other is known. */
  readonly unmatchedCounters: readonly string[] | null;
  readonly invalidIndexes: readonly string[] | null;
  readonly unvalidatedConstraints: readonly string[] | null;
  readonly tablesWithoutStatistics: readonly string[] | null;
  /** Why there would be no way back afterwards. `not wanted`: the configuration says that none is needed. */
  readonly wayBack: readonly string[] | 'not wanted' | null;
  readonly proxies: readonly {
    readonly name: string;
    /** Null: it does not answer. */
    readonly route: Route | null;
    /** Newest probe; null: never or failed. */
    readonly report: ProxyReport | null;
  }[];
  /** Null: the configuration does not ask for it. */
  readonly rehearsed: Verdict | null;
  readonly approvals: Verdict | null;
  readonly window: Verdict | null;
}

export interface GateLimits {
  readonly maxCommitLagMs: number;
  readonly stableForMs: number;
  readonly roundTripMs: number;
  readonly verifiedWithinMs: number;
  readonly maxTransactionAgeMs: number;
  readonly maxRejects: number;
  /** Proxies must hold a waiting client longer than this. */
  readonly maxWritePauseMs: number;
}

/**
 * Never overridden: a key that is missing on green is a lost row. (The other acts without a way around are steps: the fence
 * is proven, the drain is certified, the record is sealed once.)
 */
export const NOT_OVERRIDABLE: ReadonlySet<GateName> = new Set<GateName>(['copy-complete']);

const UNKNOWN = 'unknown';

const show = (ms: number): string => (ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`);

const atMost = (name: GateName, observed: number | null, limit: number, what: string): GateResult => ({
  name,
  ok: observed !== null && observed <= limit,
  observed: observed === null ? UNKNOWN : show(observed),
  limit: `at most ${show(limit)}`,
  reason:
    observed === null ? `${what} is not known` : observed <= limit ? '' : `${what} is ${show(observed)}`,
});

const noneOf = (name: GateName, found: readonly string[] | null, what: string): GateResult => ({
  name,
  ok: found !== null && found.length === 0,
  observed: found === null ? UNKNOWN : String(found.length),
  limit: '0',
  reason: found === null ? `${what}: not known` : found.length === 0 ? '' : `${what}: ${found.join(', ')}`,
});

const count = (name: GateName, found: number | null, limit: number, what: string): GateResult => ({
  name,
  ok: found !== null && found <= limit,
  observed: found === null ? UNKNOWN : String(found),
  limit: limit === 0 ? '0' : `at most ${limit}`,
  reason: found === null ? `the number of ${what} is not known` : found <= limit ? '' : `${found} ${what}`,
});

/** A gate whose rule is decided elsewhere; open when the configuration does not ask for it. */
const decided = (name: GateName, verdict: Verdict | null): GateResult => ({
  name,
  ...(verdict ?? { ok: true, observed: 'none', limit: 'not required', reason: '' }),
});

/** A gate that does not apply, or that nobody has asked for. */
const notRequired = (name: GateName): GateResult => decided(name, null);

/** All gates, in the order of their names. Pure: the same code decides for `status`, the dry run and the switch. */
export function evaluateGates(facts: GateFacts, limits: GateLimits): readonly GateResult[] {
  const stable = facts.lagStableForMs;
  // What clients have written since the switch was never compared: the way back is what carried it, and it rejects nothing in silence.
  const back = facts.from === 'green';
  return [
    atMost('lag', facts.lagMs, limits.maxCommitLagMs, 'the lag'),
    {
      name: 'lag-stable',
      ok: stable !== null && stable >= limits.stableForMs,
      observed: stable === null ? UNKNOWN : show(stable),
      limit: `at least ${show(limits.stableForMs)}`,
      reason:
        stable === null
          ? 'the lag is not within its limit or not known'
          : stable >= limits.stableForMs
            ? ''
            : `the lag has been within its limit for ${show(stable)} only`,
    },
    atMost('round-trip', facts.roundTripMs, limits.roundTripMs, 'the round trip of a mark'),
    copyComplete(facts),
    back
      ? notRequired('verified')
      : atMost(
          'verified',
          facts.verification.ageMs,
          limits.verifiedWithinMs,
          'the age of the last clean verification',
        ),
    back
      ? notRequired('differences')
      : count('differences', facts.verification.differences, 0, 'rows that differ'),
    foreignWrites(facts),
    count('rejects', facts.rejects, limits.maxRejects, 'rejected rows'),
    atMost(
      'long-transactions',
      facts.oldestTransactionMs,
      limits.maxTransactionAgeMs,
      `the oldest transaction on ${facts.from}`,
    ),
    noneOf('ddl', facts.ddlInProgress, 'in progress on mapped tables'),
    sourceHealth(facts.source),
    facts.wayBack === 'not wanted'
      ? notRequired('reverse-path')
      : noneOf('reverse-path', facts.wayBack, 'no way back'),
    decided('rehearsed', back ? null : facts.rehearsed),
    noneOf('counters', facts.unmatchedCounters, `counters of ${facts.from} without one on the other side`),
    // Blue has served as it is.
    ...(back
      ? (['indexes', 'constraints', 'statistics'] as const).map(notRequired)
      : [
          noneOf('indexes', facts.invalidIndexes, 'invalid or unfinished indexes'),
          noneOf('constraints', facts.unvalidatedConstraints, 'constraints not validated'),
          noneOf('statistics', facts.tablesWithoutStatistics, 'tables without statistics'),
        ]),
    proxies(facts, limits),
    // Who has to go back does not wait for an hour or a signature.
    decided('approvals', back ? null : facts.approvals),
    decided('window', back ? null : facts.window),
  ];
}

function copyComplete({ from, copyComplete: done, holes }: GateFacts): GateResult {
  const reason =
    done === null || holes === null
      ? 'the state of the copy is not known'
      : !done
        ? 'the copy is not complete'
        : holes > 0
          ? `${holes} keys are known to be missing on ${from === 'blue' ? 'green' : 'blue'}`
          : '';
  return {
    name: 'copy-complete',
    ok: reason === '',
    observed: done === null || holes === null ? UNKNOWN : `${done ? 'complete' : 'copying'}, ${holes} holes`,
    limit: 'complete, 0 holes',
    reason,
  };
}

/** Of the side that follows: only we may write there. */
function foreignWrites({ from, foreignWrites: facts }: GateFacts): GateResult {
  const side = from === 'blue' ? 'green' : 'blue';
  if (facts === null) return notRequired('foreign-writes');
  const { blind, count: found, named } = facts;
  const more = found > named.length ? `, and ${found - named.length} more` : '';
  return {
    name: 'foreign-writes',
    ok: found === 0 && blind === null,
    observed: found === 0 && blind !== null ? UNKNOWN : `${found} transactions`,
    limit: '0 transactions',
    reason: [
      ...(found === 0 ? [] : [`written on ${side} by others: ${named.join('; ')}${more}`]),
      ...(blind === null ? [] : [`the log of ${side} is not read: ${blind}`]),
    ].join('; '),
  };
}

function sourceHealth(source: SourceHealth | null): GateResult {
  return {
    name: 'source-health',
    ok: source !== null && source.ok,
    observed: source?.state ?? UNKNOWN,
    limit: 'healthy',
    reason:
      source === null
        ? 'the state of the source is not known'
        : source.ok
          ? ''
          : source.detail || source.state,
  };
}

function proxies({ from, proxies: all }: GateFacts, limits: GateLimits): GateResult {
  const reasons = all.flatMap(({ name, route, report }) => {
    if (route === null) return [`${name} does not answer`];
    if (report === null) return [`${name} was not examined`];
    const hold = report.holdsForMs;
    return [
      ...(route.to === from ? [] : [`${name} points to ${route.to}`]),
      ...(route.paused ? [`${name} is paused`] : []),
      ...report.findings
        .filter((finding) => finding.level === 'block')
        .map((finding) => `${name}: ${finding.text}`),
      ...(typeof hold === 'number' && hold <= limits.maxWritePauseMs
        ? [
            `${name} holds a waiting client for ${show(hold)}, less than the write pause of ${show(limits.maxWritePauseMs)}`,
          ]
        : []),
    ];
  });
  return {
    name: 'proxies',
    ok: reasons.length === 0,
    observed:
      all.length === 0
        ? 'none configured'
        : all.map(({ name, route }) => `${name}: ${route?.to ?? UNKNOWN}`).join(', '),
    limit: `all to ${from}, none paused`,
    reason: reasons.join('; '),
  };
}

/**
 * The gates that stay shut after the overrides.
 * @throws VerdigrisError USAGE for an override of a gate that has none, or without a reason
 */
export function closedGates(
  results: readonly GateResult[],
  overrides: readonly GateOverride[],
): readonly GateResult[] {
  for (const { gate, reason } of overrides) {
    if (NOT_OVERRIDABLE.has(gate)) {
      throw new VerdigrisError(
        'USAGE',
        `Gate ${gate} cannot be overridden: rows that are missing on the other side would be lost.`,
      );
    }
    if (reason.trim() === '')
      throw new VerdigrisError('USAGE', `The override of gate ${gate} names no reason.`);
  }
  return results.filter((gate) => !gate.ok && !overrides.some((override) => override.gate === gate.name));
}
