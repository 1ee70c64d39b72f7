import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    // Needs examples/next with its 340 MB of packages.
    exclude: process.env.PROPUSK_TEST_NEXT_EXAMPLE_DIR ? [] : ['tests/next.test.ts'],
    globalSetup: 'tests/support/global.ts',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The machine has few cores, and the server needs one of them.
    maxWorkers: 2,
  },
});
