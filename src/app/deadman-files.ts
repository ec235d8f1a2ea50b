import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { LoadedConfig } from './load.ts';
import { controlSocketPath } from './socket-path.ts';

/** Where a dead-man leaves what it did, beside the control socket of its engine. */
export interface DeadmanFiles {
  /** One JSON object: {@link DeadmanReport}. There is one only while a dead-man is armed, or after one has acted. */
  readonly report: string;
  /** Its log. */
  readonly log: string;
}

export function deadmanFiles(loaded: LoadedConfig): DeadmanFiles {
  const stem = controlSocketPath(loaded.config).replace(/\.sock$/, '');
  return { report: `${stem}.deadman.json`, log: `${stem}.deadman.log` };
}

export interface DeadmanReport {
  readonly migration: string;
  readonly epoch: number;
  readonly pid: number;
  readonly state: 'armed' | 'acting' | 'restored' | 'sealed' | 'superseded' | 'expired';
  /** What made it act; null while it did not. */
  readonly why: string | null;
  readonly events: readonly {
    readonly at: string;
    readonly event: string;
    readonly detail: Readonly<Record<string, unknown>>;
  }[];
}

/** A reader sees the old or the new one, never a part. That of a later attempt stays. */
export async function writeReport(path: string, report: DeadmanReport): Promise<void> {
  if ((await epochIn(path)) > report.epoch) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${report.pid}`;
  await writeFile(temporary, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600 });
  await rename(temporary, path);
}

async function epochIn(path: string): Promise<number> {
  try {
    return (JSON.parse(await readFile(path, 'utf8')) as Partial<DeadmanReport>).epoch ?? 0;
  } catch {
    return 0;
  }
}

/** After an attempt in which it had nothing to do. */
export async function removeFiles(files: DeadmanFiles): Promise<void> {
  await Promise.all([files.report, files.log].map((path) => rm(path, { force: true })));
}
