import { test } from 'vitest';
import { nothingFound } from './churn.ts';

test('no false positive under heavy churn', () => nothingFound(45_000), 150_000);
