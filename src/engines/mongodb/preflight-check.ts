import type { Document, MongoClient } from 'mongodb';
import type { PreflightScope, SessionEnv } from '../../core/engine.ts';
import type { CheckResult } from '../../core/preflight.ts';
import type { MongoConfig } from './config.ts';

/** What a check may look at. */
export interface CheckContext {
  readonly client: MongoClient;
  readonly config: MongoConfig;
  readonly env: SessionEnv;
  readonly scope: PreflightScope;
  readonly hello: Document;
  /** The router of a sharded cluster answers. */
  readonly router: boolean;
  readonly version: readonly [major: number, minor: number];
}

export interface Finding {
  readonly observed: string;
  readonly remedy: string;
  /** A command in the shell's words; printed, never run. */
  readonly sql?: string;
  readonly level?: CheckResult['level'];
}

/** One question. Answers with what is wrong, or with one line of what was seen when nothing is. */
export interface Check {
  readonly id: string;
  readonly title: string;
  readonly level: CheckResult['level'];
  readonly expected: string;
  readonly role?: PreflightScope['role'];
  /** Where the question has an answer; absent: a replica set and a router. */
  readonly server?: 'set' | 'router';
  run(context: CheckContext): Promise<readonly Finding[] | string>;
}
