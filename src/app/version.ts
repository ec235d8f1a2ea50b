import { readFileSync } from 'node:fs';

// From the sources package.json is two folders up, from the built package three.
function read(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const found = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as {
        name?: string;
        version?: string;
      };
      if (found.name === 'verdigris' && found.version !== undefined) return found.version;
    } catch {
      // Not there: the next one.
    }
  }
  return '0.0.0';
}

/** Version of this package. */
export const VERSION = read();
