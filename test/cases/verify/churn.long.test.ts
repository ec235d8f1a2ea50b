import { test } from 'vitest';
import { nothingFound } from './churn.ts';

test('no false positive in an hour of heavy churn', () => nothingFound(3_600_000), 4_000_000);
