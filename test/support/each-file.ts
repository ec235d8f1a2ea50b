import { afterAll } from 'vitest';

import { endLeftovers } from './server-process.ts';

// Registered before the hooks of the test file, so it runs after them: what is alive now was forgotten.
afterAll(async () => {
  const left = await endLeftovers();
  if (left.length > 0) throw new Error(`the test file left behind: ${left.join('; ')}`);
});
