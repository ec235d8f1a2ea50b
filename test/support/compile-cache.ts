import { fileURLToPath } from 'node:url';

/**
 * Imported for its effect by whatever starts the engine's processes from their source: they keep what Node made of it, by its content, and
 * find it again. Without it each one spends some 0.6 s of processor time on stripping the same types.
 */
process.env['NODE_COMPILE_CACHE'] ??= fileURLToPath(
  new URL('../../node_modules/.cache/verdigris-compiled', import.meta.url),
);
