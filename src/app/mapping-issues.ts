import { VerdigrisError } from '../core/errors.ts';
import { invalid, type LoadedConfig } from './load.ts';
import type { Issue } from './document.ts';
import type { ConfigPath } from './path.ts';

/**
 * A mapping that does not fit the tables is found after the file was read; this gives such an error back with file, line and
 * column. Other errors pass.
 */
export function withPlaces(error: unknown, loaded: LoadedConfig): unknown {
  if (!(error instanceof VerdigrisError) || error.code !== 'MAPPING_INVALID') return error;
  const { issues } = error.context;
  if (!Array.isArray(issues)) return error;
  const file = loaded.shownFile;
  const located = (issues as unknown[]).flatMap((issue): Issue[] => {
    const { path, message } = (issue ?? {}) as { path?: unknown; message?: unknown };
    if (!Array.isArray(path) || typeof message !== 'string') return [];
    const parts = path as ConfigPath;
    const full = parts[0] === 'tables' ? parts : ['tables', ...parts];
    const place = loaded.locate(full);
    return [{ path: full, message, place }];
  });
  if (located.length === 0) return error;
  const shown = invalid(file, located);
  return new VerdigrisError('MAPPING_INVALID', shown.message, {
    remedy: error.remedy,
    context: { ...error.context, ...shown.context },
    cause: error,
  });
}
