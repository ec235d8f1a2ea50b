import type { CutoverReport } from '../../src/app/engine.ts';
import type { Failure, Ledger } from './ledger.ts';

export interface DemoOptions {
  /** 1: a little more than 300,000 rows. */
  readonly scale: number;
  /** How long the clients go on after the switch. */
  readonly afterMs: number;
  /** Another flavour of the engine, on both sides; where the engine has flavours. */
  readonly flavour?: string;
  readonly report: DemoReport;
}

/** Where the demo tells what it does. */
export interface DemoReport {
  phase(text: string): void;
  progress(line: string): void;
  cutover(report: CutoverReport): void;
}

/** `data` of the last line. */
export interface DemoData {
  readonly blue: string;
  readonly green: string;
  readonly rows: number;
  readonly clientTransactions: number;
  readonly failedTransactions: number;
  readonly lostTransactions: number;
  readonly duplicatedTransactions: number;
  /** Connections that clients opened anew after theirs was ended; not there where the proxy keeps connections. */
  readonly reconnects?: number;
  readonly differences: number;
  readonly writePauseMs: number;
  readonly activeSide: 'blue' | 'green';
  readonly copyRowsPerSecond: number;
  readonly rollback: RollbackData;
  readonly seconds: number;
}

/** The way back, under the same load. */
export interface RollbackData {
  readonly activeSide: 'blue' | 'green';
  readonly failedTransactions: number;
  /** Of every transaction that was ever answered: not on blue. */
  readonly lostTransactions: number;
  readonly duplicatedTransactions: number;
  readonly reconnects?: number;
  /** Between blue, mapped by hand, and green, once green has followed blue to the end. */
  readonly differences: number;
  readonly writePauseMs: number;
}

export interface DemoResult {
  readonly data: DemoData;
  readonly ok: boolean;
  readonly tables: readonly Compared[];
  readonly failures: readonly Failure[];
  readonly byAction: Ledger['byAction'];
  /** Sequences of green that would hand out a number twice. */
  readonly colliding: readonly string[];
  readonly engineWritePauseMs: number | null;
  readonly transactionsOnGreen: number;
  /** Made while green served and after it, by the clients of the rollback. */
  readonly clientTransactionsOfRollback: number;
}

/** One table of green beside what the mapping, said by hand, makes of blue. */
export interface Compared {
  readonly table: string;
  readonly rows: number;
  /** Rows that only blue asks for. */
  readonly missing: number;
  /** Rows that only green has. */
  readonly extra: number;
}

/** A changed row is missing on one side and extra on the other: it counts once. */
export const differencesOf = (tables: readonly Compared[]): number =>
  tables.reduce((sum, { missing, extra }) => sum + Math.max(missing, extra), 0);

/** Transactions whose commit was answered, on one side. */
export interface Counted {
  readonly lost: number;
  readonly duplicated: number;
}

/** What has to be true of every run, whatever the engine. */
export const holds = (data: DemoData): boolean =>
  data.failedTransactions === 0 &&
  data.lostTransactions === 0 &&
  data.duplicatedTransactions === 0 &&
  data.differences === 0 &&
  data.clientTransactions > 0 &&
  data.activeSide === 'green' &&
  data.rollback.failedTransactions === 0 &&
  data.rollback.lostTransactions === 0 &&
  data.rollback.duplicatedTransactions === 0 &&
  data.rollback.differences === 0 &&
  data.rollback.activeSide === 'blue';
