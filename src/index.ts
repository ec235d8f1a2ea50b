export { createEngine } from './app/engine.ts';
export type {
  Approval,
  CutoverReport,
  CutoverRequest,
  EngineEvents,
  EngineOptions,
  GateList,
  Mismatch,
  PlanReport,
  Rehearsal,
  RunReport,
  ScheduledCutover,
  Status,
  VerdigrisEngine,
  VerifyResult,
  WatchedStatus,
  When,
} from './app/engine.ts';
export { loadProxyAdapter } from './app/proxy-adapter.ts';
export type { MakeProxyAdapter } from './app/proxy-adapter.ts';
export { DATA_SCHEMAS, envelopeSchema, parseEnvelope } from './app/envelope.ts';
export type { Action, Envelope, EnvelopeError, Kind } from './app/envelope.ts';
export { loadConfig } from './app/load.ts';
export type { LoadedConfig, LoadOptions } from './app/load.ts';
export type { Config } from './app/config.ts';
export { CODES, VerdigrisError } from './core/errors.ts';
export type { Code, Directive } from './core/errors.ts';
export type { Clock } from './core/clock.ts';
export type { GateName, GateResult } from './core/gate.ts';
export type { Logger } from './core/log.ts';
export type { CheckResult } from './core/preflight.ts';
export type { ProxyAdapter, ProxyPromise, ProxyReport, Route } from './core/proxy.ts';
export type { JournalEvent, Phase } from './core/state.ts';
