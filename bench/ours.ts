import { mkdir } from 'node:fs/promises';
import type { EngineProcess, Workplace } from '../test/support/engine-process.ts';

/** The real command in a process of its own, as it is measured. With a folder it writes its CPU profile there when it ends. */
export async function startOurs(
  place: Workplace,
  cpuProfile: string | null,
  interval = '1s',
): Promise<EngineProcess> {
  if (cpuProfile !== null) await mkdir(cpuProfile, { recursive: true });
  const options = process.env['NODE_OPTIONS'] ?? '';
  return place.start({
    args: ['--interval', interval, '--log-level', 'warn'],
    env:
      cpuProfile === null
        ? {}
        : { NODE_OPTIONS: `${options} --cpu-prof --cpu-prof-dir=${cpuProfile}`.trim() },
  });
}

/** Rejects when the engine ends. */
export async function diesOf(engine: EngineProcess): Promise<never> {
  const code = await engine.ended;
  throw new Error(`the engine ended with ${code}:\n${engine.output().slice(-4000)}`);
}

/** @throws Error when it does not end as an operator's signal ends it */
export async function endOurs(engine: EngineProcess): Promise<void> {
  const ended = await engine.kill('SIGTERM');
  if (ended !== 143 && ended !== 'SIGTERM') throw new Error(`the engine ended with ${ended}`);
}
