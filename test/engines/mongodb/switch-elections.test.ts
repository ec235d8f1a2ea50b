import { test } from 'vitest';

import { SwitchRig } from './switch-rig.ts';

const rig = new SwitchRig(3);

test('the primary of blue is killed behind the fence: the new one holds the block, or the switch is undone; no acknowledged order is lost or there twice', async () => {
  await rig.electedBefore('prove', 'blue', 'kill');
}, 180_000);

test('the primary of green is killed when blue is sealed: it goes forward to the new one; no acknowledged order is lost or there twice', async () => {
  await rig.electedBefore('open', 'green', 'kill');
}, 180_000);
