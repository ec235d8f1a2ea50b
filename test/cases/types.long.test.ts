import { describe, test } from 'vitest';
import { POSTGRES_VERSIONS, type PostgresVersion } from '../support/postgres.ts';
import { everyTypeArrives } from './types/scenario.ts';

const PAIRS: readonly (readonly [PostgresVersion, PostgresVersion])[] = POSTGRES_VERSIONS.flatMap((from) =>
  POSTGRES_VERSIONS.map((to) => [from, to] as const),
);

describe('every type of the server arrives byte-identical, from every version to every version', () => {
  test.each(PAIRS)('%i to %i', (from, to) => everyTypeArrives(from, to), 300_000);
});
