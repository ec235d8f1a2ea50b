import { defineConfig } from 'vitest/config';

const long = process.env['VERDIGRIS_TEST_LONG'] === '1';
const longOnly = ['test/**/*.long.test.ts'];
const withoutServers = ['test/unit/**/*.test.ts', 'test/architecture.test.ts'];

export default defineConfig({
  test: {
    pool: 'forks',
    // Two cores: more workers only make servers and clients wait for each other.
    maxWorkers: 2,
    testTimeout: long ? 20 * 60_000 : 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: long ? [] : withoutServers, exclude: longOnly },
      },
      {
        extends: true,
        test: {
          name: 'servers',
          include: long ? longOnly : ['test/**/*.test.ts'],
          exclude: long ? [] : [...longOnly, ...withoutServers],
          globalSetup: ['test/support/global-setup.ts'],
          setupFiles: ['test/support/each-file.ts'],
        },
      },
    ],
  },
});
