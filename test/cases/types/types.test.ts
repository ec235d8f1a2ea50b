import { test } from 'vitest';
import { everyTypeArrives } from './scenario.ts';

test(
  'every type of the server: copied, inserted and updated rows are byte-identical (F65, F66, F67, F68, F72, F73)',
  () => everyTypeArrives(16, 18),
  120_000,
);
