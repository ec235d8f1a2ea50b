import { setTimeout as sleep } from 'node:timers/promises';
import type { Side } from '../../../src/core/engine.ts';
import { waitFor } from '../../support/wait.ts';
import type { Direction, Fault, KillCase } from './cases.ts';
import type { TestEngine } from './engine.ts';
import type { KillRig, Taken } from './rig.ts';

const FREEZE_MS = 60_000;
/** How long the clients may wait for the one who stands in for a lost engine: its silence, and a look or two. */
const ALONE_MS = 15_000;
/** Longest attempt of an engine that runs: a step forward, and a look at the end. */
const OUTCOME_MS = 120_000;
const SETTLE_MS = 90_000;

/** What a case came to. */
export interface Observed {
  readonly ended: Side;
  /** Who gave the clients their way back: the run by itself, or the next start of an engine. */
  readonly by: 'itself' | 'next start';
  /** What the engine said of its attempt; null when it did not live to say it. */
  readonly outcome: string | null;
  /** From the fault to the first transaction of a client of the proxy that was acknowledged later, ms. */
  readonly clientsMs: number;
  /** Errors that clients of the proxy saw. */
  readonly clientErrors: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Rows that nobody committed. */
  readonly unknown: number;
  /**
   * By the times that the sides gave the rows that they took: how often the side that takes writes changed, beyond the turns that were
   * made. Not 0: both took writes at one time.
   */
  readonly overlaps: number;
}

const FROM: Readonly<Record<Direction, Side>> = { switch: 'blue', rollback: 'green' };
const ACT = { switch: 'cutover', rollback: 'rollback' } as const;

/** Lets the side serve from which the case starts. */
export async function prepareCase(rig: KillRig, { direction }: KillCase): Promise<void> {
  if (rig.serving === FROM[direction]) return;
  // A turn counts by the rows on both sides of it: somebody must have written before it.
  if (rig.ledger.acknowledged.size === 0) {
    await rig.work();
    await rig.rest();
  }
  const engine = rig.standing ?? rig.engine();
  const other = direction === 'switch' ? 'rollback' : 'cutover';
  engine.tell({ kind: 'turn', act: other, point: null });
  await waitFor(() => engine.report ?? engine.failed ?? (engine.over || null), {
    what: `the ${other} before the case; ${engine.told()}`,
    timeoutMs: SETTLE_MS,
  });
  if (engine.report?.outcome !== 'switched') throw new Error(`no ${other} before the case: ${engine.told()}`);
  engine.reset();
  rig.serving = FROM[direction];
  rig.turns += 1;
}

/** Runs one case and says what was seen. The rig can serve another one after it. */
export async function runCase(rig: KillRig, { direction, fault, point }: KillCase): Promise<Observed> {
  const from = FROM[direction];
  await rig.work();
  const engine = rig.standing ?? rig.engine();
  await rig.intrude();
  engine.tell({ kind: 'turn', act: ACT[direction], point });
  await engine.at(point);
  const then = performance.now();
  const writes = rig.clients.firstAfter(then, OUTCOME_MS + SETTLE_MS);
  writes.catch(() => undefined);
  await inflict(rig, engine, fault);
  const engineLost = fault === 'kill' || fault === 'freeze';
  if (engineLost) await alone(rig, from, then);
  else {
    engine.tell({ kind: 'go' });
    await waitFor(() => engine.report !== null || engine.failed !== null || engine.over, {
      what: `the engine to come to something after ${fault} at ${point}`,
      timeoutMs: OUTCOME_MS,
    });
  }
  await heal(rig, fault);
  const { report, failed } = engine;
  if (report?.outcome === 'undetermined' && !/verdigris (start|recover)/.test(report.error?.remedy ?? ''))
    throw new Error(`undetermined without instructions: ${engine.told()}`);
  const startNext = engineLost || engine.over || report?.outcome === 'undetermined';
  if (startNext && fault !== 'freeze') await engine.kill();
  const started = startNext ? performance.now() : null;
  const serving = startNext ? rig.engine() : engine;
  const side = await settled(rig, serving);
  const clientsMs = await writes;
  if (fault === 'freeze') await thaw(rig, engine, then);
  await rig.clients.more();
  const clientErrors = rig.clients.failures.length;
  await rig.rest();
  if (side !== from) rig.turns += 1;
  rig.serving = side;
  await replicated(rig);
  serving.reset();
  return {
    ended: side,
    by: started !== null && then + clientsMs > started ? 'next start' : 'itself',
    outcome: report?.outcome ?? failed?.code ?? null,
    clientsMs: Math.round(clientsMs),
    clientErrors,
    ...(await verdict(rig, side)),
  };
}

async function inflict(rig: KillRig, engine: TestEngine, fault: Fault): Promise<void> {
  const cut = async (proxy: KillRig['toBlue']): Promise<void> => {
    await proxy.refuse();
    proxy.cut();
  };
  switch (fault) {
    case 'kill':
      return engine.kill();
    case 'freeze':
      return engine.kill('SIGSTOP');
    case 'kill-blue':
      return rig.servers.blue.stop('immediate');
    case 'kill-green':
      return rig.servers.green.stop('immediate');
    case 'kill-proxy':
      return rig.front.kill();
    case 'cut-blue':
      return cut(rig.toBlue);
    case 'cut-green':
      return cut(rig.toGreen);
    case 'cut-proxy':
      if (rig.front.console === null) throw new Error(`${rig.front.name} has no network console`);
      return cut(rig.front.console);
  }
}

async function heal(rig: KillRig, fault: Fault): Promise<void> {
  if (fault === 'kill-blue') await rig.servers.blue.start();
  if (fault === 'kill-green') await rig.servers.green.start();
  if (fault === 'kill-proxy') await rig.front.start();
  await rig.toBlue.restore();
  await rig.toGreen.restore();
  await rig.front.console?.restore();
}

/** Without an engine: the clients write again, or the side that stops is sealed, and then nobody but an engine goes on. */
async function alone(rig: KillRig, from: Side, then: number): Promise<void> {
  let sealed = false;
  await waitFor(
    async () => {
      sealed = (await rig.record(from))?.state === 'sealed';
      return sealed || [...rig.clients.acknowledged.values()].some((at) => at > then);
    },
    { what: 'clients to write again without the engine, or a record that says sealed', timeoutMs: ALONE_MS },
  );
}

/** The run has come to rest: its phase, both records, and the clients say the same. */
async function settled(rig: KillRig, engine: TestEngine): Promise<Side> {
  const look = async (): Promise<Side | null> => {
    const phase = engine.status?.status.phase;
    const [blue, green] = [await rig.record('blue'), await rig.record('green')];
    if (blue === null || green === null || (blue.state === 'open') === (green.state === 'open')) return null;
    if (phase === 'replicating' && blue.state === 'open') return 'blue';
    if (phase === 'reversing' && green.state === 'open') return 'green';
    return null;
  };
  const side = await waitFor(look, {
    what: 'the run to come to rest',
    timeoutMs: SETTLE_MS,
    everyMs: 50,
  }).catch(async (cause: unknown) => {
    const facts = JSON.stringify([await rig.record('blue'), await rig.record('green'), await rig.deadman()]);
    throw new Error(`${String(cause)}; ${facts}; ${engine.told()}`, { cause });
  });
  await rig.clients.more(6, SETTLE_MS).catch((cause: unknown) => {
    throw new Error(`${String(cause)}; ${rig.clients.failures.slice(-3).join('; ')}; ${engine.told()}`, {
      cause,
    });
  });
  return side;
}

/** The engine that was frozen goes on where it stood: it finds that it was replaced, and moves nothing any more. */
async function thaw(rig: KillRig, engine: TestEngine, frozenAt: number): Promise<void> {
  await sleep(Math.max(0, frozenAt + FREEZE_MS - performance.now()));
  const before = await rig.decisions();
  engine.tell({ kind: 'go' });
  await engine.kill('SIGCONT');
  await waitFor(() => engine.report !== null || engine.failed !== null || engine.over, {
    what: 'the thawed engine to come to something',
    timeoutMs: OUTCOME_MS,
  });
  await rig.clients.more();
  await engine.kill();
  const after = await rig.decisions();
  if (JSON.stringify(after) !== JSON.stringify(before))
    throw new Error(
      `the thawed engine moved something: ${JSON.stringify(before)} became ${JSON.stringify(after)}`,
    );
}

/** The other side gets everything that the serving one took: the stream goes on. */
async function replicated(rig: KillRig): Promise<void> {
  const other = rig.serving === 'blue' ? 'green' : 'blue';
  const want = JSON.stringify(sorted(await rig.taken(rig.serving)));
  await waitFor(async () => JSON.stringify(sorted(await rig.taken(other))) === want, {
    what: `${other} to have what ${rig.serving} took`,
    timeoutMs: SETTLE_MS,
    everyMs: 100,
  });
}

const sorted = ({ orders, tally }: Taken): unknown => [
  orders.toSorted((left, right) => left.id - right.id),
  [...tally].toSorted(([left], [right]) => left - right),
];

/** Compares the ledgers with what the serving side holds, and the times of both sides. */
async function verdict(
  rig: KillRig,
  side: Side,
): Promise<Pick<Observed, 'lost' | 'duplicated' | 'unknown' | 'overlaps'>> {
  const [blue, green] = [await rig.taken('blue'), await rig.taken('green')];
  const serving = side === 'blue' ? blue : green;
  const present = new Set(serving.orders.map(({ id }) => id));
  const { acknowledged, unsure } = rig.ledger;
  return {
    lost: [...acknowledged].filter((id) => !present.has(id)).length,
    duplicated: miscounted(serving),
    unknown: [...present].filter((id) => !acknowledged.has(id) && !unsure.has(id)).length,
    overlaps: changesOf(blue, green) - rig.turns,
  };
}

/** Clients whose count is not that of their orders: a transaction was applied in part, or not once. */
function miscounted({ orders, tally }: Taken): number {
  const counts = new Map<number, number>();
  for (const { client } of orders) counts.set(client, (counts.get(client) ?? 0) + 1);
  const clients = new Set([...counts.keys(), ...tally.keys()]);
  return [...clients].filter((client) => counts.get(client) !== tally.get(client)).length;
}

function changesOf(blue: Taken, green: Taken): number {
  const rows = new Map([...blue.orders, ...green.orders].map((row) => [row.id, row]));
  const sides = [...rows.values()].toSorted((left, right) => left.at - right.at).map(({ side }) => side);
  return sides.filter((side, index) => index > 0 && side !== sides[index - 1]).length;
}
