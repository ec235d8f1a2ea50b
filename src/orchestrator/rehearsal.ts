import type { Canary } from '../core/canary.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Rehearsal } from './rehearsal-result.ts';
import { ACT_MS, Stage, type OpenWayBack, type Props, type RehearsalOptions } from './rehearsal-stage.ts';

const ROWS = 100;

/** What writers would wait for on the way there, and on the way back. */
const HELD_THERE: ReadonlySet<string> = new Set([
  'fence',
  'prove',
  'drain',
  'reverse',
  'route',
  'seal',
  'open',
]);
const HELD_BACK: ReadonlySet<string> = new Set([
  'back.fence',
  'back.prove',
  'back.drain',
  'back.seal',
  'back.open',
  'route',
]);

/**
 * A switch there and back on rows of our own, with the fences, the log, the way back and the sinks of the real one, and without moving a
 * client. Never rejects; everything it made is removed, also after a failure.
 */
export async function rehearse(options: RehearsalOptions): Promise<Rehearsal> {
  const { clock, log, planHash } = options;
  const stage = new Stage(options);
  let error: VerdigrisError | null = null;
  let cleared = true;
  let rows = 0;
  try {
    const props = await stage.set();
    const back = await stage.open(props, await stage.wayBack(props));
    await there(options, stage, { ...props, back });
    rows = await andBack(options, stage, { ...props, back });
    await compare(stage, props);
  } catch (caught) {
    error = asVerdigrisError(caught);
  }
  try {
    await stage.clear();
  } catch (caught) {
    const left = asVerdigrisError(caught);
    cleared = false;
    log.error({ code: left.code }, left.message);
    error ??= new VerdigrisError(left.code, `What the rehearsal made could not be removed: ${left.message}`, {
      remedy:
        'Run it again, or start the engine again, once both sides answer: it finds what was left and removes it.',
      cause: left,
    });
  }
  const pause = (names: ReadonlySet<string>): number | null =>
    error === null
      ? stage.acts.filter(({ name }) => names.has(name)).reduce((sum, { ms }) => sum + ms, 0)
      : null;
  return {
    at: new Date(clock.now()).toISOString(),
    ok: error === null,
    planHash,
    acts: stage.acts,
    writePauseMs: pause(HELD_THERE),
    backPauseMs: pause(HELD_BACK),
    rows,
    cleared,
    error: error === null ? null : { code: error.code, message: error.message, remedy: error.remedy },
  };
}

/** Removes what a rehearsal that was killed has left on either side. @throws VerdigrisError STATE_FAILED with what is left */
export async function clearRehearsal(options: RehearsalOptions): Promise<void> {
  const stage = new Stage(options);
  try {
    // Whatever is there is found and belongs to the stage again.
    await stage.wayBack(await stage.set());
  } finally {
    await stage.clear();
  }
}

async function there(
  o: RehearsalOptions,
  stage: Stage,
  { blue, blueFence, greenFence, back }: Props & { readonly back: OpenWayBack },
): Promise<void> {
  const { held, proxies, engine } = o;
  const epoch = (await blueFence.state()).epoch + 1;
  await stage.act('fence', 'raise the fence of the canary table of blue', async () => {
    const barrier = await blueFence.raise(epoch, ACT_MS);
    return `barrier ${engine.positions.describe(barrier)}`;
  });
  await stage.act('prove', 'prove it: an ordinary write is refused', async () => {
    await blueFence.prove();
    await refused(blue, 'blue');
    return '';
  });
  await stage.act(
    'drain',
    'a mark through the stream of the run, applied and flushed on green',
    async (signal) => {
      const mark = await held.source.mark(`rehearsal:${epoch}`);
      await held.pipeline.drain(mark, signal);
      const blockers = await blueFence.blockers();
      return blockers.length === 0 ? 'no blocker' : `blockers of this database: ${blockers.join(', ')}`;
    },
  );
  await stage.act('reverse', 'a mark through the way back, while green is fenced', async () => {
    if (!engine.capabilities.marksWhileFenced) return 'this engine takes no mark while fenced';
    await back.answer(`rehearsal:${epoch}`);
    return '';
  });
  await stage.act('route', 'the reload of every proxy, without a change', async (signal) => {
    const done = await Promise.all(
      proxies.map(async (proxy) => {
        if (proxy.rehearse) await proxy.rehearse(signal);
        else await proxy.observe(signal);
        return `${proxy.name}: ${proxy.rehearse ? 'reloaded' : 'read only, since a reload would touch clients'}`;
      }),
    );
    return done.join('; ') || 'no proxy';
  });
  await stage.act('seal', 'seal the record of the canary table of blue', async () => {
    if (!(await blueFence.seal(epoch)))
      throw new VerdigrisError('CUTOVER_UNDONE', 'The record of the canary table could not be sealed.');
    return `epoch ${epoch}`;
  });
  await stage.act('open', 'open the canary table of green', async () => {
    await greenFence.open(Math.max(epoch, (await greenFence.state()).epoch));
    return '';
  });
}

async function andBack(
  { engine }: RehearsalOptions,
  stage: Stage,
  { blue, green, blueFence, greenFence, back }: Props & { readonly back: OpenWayBack },
): Promise<number> {
  const { pipeline } = back;
  await stage.act('reverse.write', `${ROWS} rows written on green, and changed`, async () => {
    await green.write(ROWS);
    await green.write(ROWS);
    return '';
  });
  const epoch = Math.max((await blueFence.state()).epoch, (await greenFence.state()).epoch) + 1;
  let barrier = await stage.act('back.fence', 'raise the fence of the canary table of green', async () =>
    greenFence.raise(epoch, ACT_MS),
  );
  await stage.act('back.prove', 'prove it: an ordinary write is refused', async () => {
    await greenFence.prove();
    await refused(green, 'green');
    return '';
  });
  await stage.act('back.drain', 'wait until blue has every row that was written on green', async (signal) => {
    barrier = await pipeline.drain(barrier, signal);
    return `to ${engine.positions.describe(barrier)}`;
  });
  await stage.act('back.seal', 'seal the record of the canary table of green', async () => {
    if (!(await greenFence.seal(epoch)))
      throw new VerdigrisError('CUTOVER_UNDONE', 'The record of the canary table could not be sealed.');
    return `epoch ${epoch}`;
  });
  await stage.act('back.open', 'open the canary table of blue', async () => {
    await blueFence.open(epoch);
    return '';
  });
  return (await blue.read()).rows;
}

async function compare(stage: Stage, { blue, green }: Props): Promise<void> {
  await stage.act('compare', 'blue has what was written on green, and takes writes', async () => {
    const [left, right] = await Promise.all([blue.read(), green.read()]);
    if (left.rows !== ROWS || left.digest !== right.digest) {
      throw new VerdigrisError(
        'VERIFY_DIFFERENT',
        `The canary rows differ after the way back: ${left.rows} on blue, ${right.rows} on green.`,
        { remedy: 'Do not switch: a rollback would lose writes. Report it with the log.' },
      );
    }
    await blue.write(1);
    return `${left.rows} rows`;
  });
}

async function refused(canary: Canary, side: string): Promise<void> {
  const wrote = await canary.write(1).then(
    () => true,
    () => false,
  );
  if (!wrote) return;
  throw new VerdigrisError(
    'CUTOVER_FENCE_LEAKS',
    `A write to the canary table of ${side} went through its fence.`,
  );
}
