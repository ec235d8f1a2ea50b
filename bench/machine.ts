import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { thisMachine, type Machine } from '../src/bench/machine.ts';

/** The machine, and what of this project ran on it. */
export const machine = (): Machine & { readonly commit: string } => ({ ...thisMachine(), commit: commit() });

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'ignore'] })
        .toString()
        .trim();
    const hash = git('rev-parse', '--short', 'HEAD');
    const changed = git('status', '--porcelain', '--', '../src') !== '';
    return changed ? `${hash} with changes` : hash;
  } catch {
    return 'unknown';
  }
}

/** CPU seconds that a process has used so far, or null when it is gone. */
export function cpuSeconds(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name in parentheses and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return null;
  }
}

/** Highest resident memory that a process ever had, MB, or null when it is gone. Shared buffers count where they were touched. */
export function peakMb(pid: number): number | null {
  try {
    const found = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return found === null ? null : Number(found[1]) / 1024;
  } catch {
    return null;
  }
}
