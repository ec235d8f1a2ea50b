import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { VerdigrisError } from '../core/errors.ts';
import { moduleKey, moduleReferences, type MappingSpec, type ModuleFunction } from '../transform/spec.ts';

/**
 * Loads the functions that a mapping names. Their code runs with our rights and credentials, so a file that somebody
 * else owns or may write is refused.
 * @throws VerdigrisError CONFIG_MODULE
 */
export async function loadModules(
  mapping: MappingSpec,
  configFile: string,
): Promise<Map<string, ModuleFunction>> {
  const functions = new Map<string, ModuleFunction>();
  for (const reference of moduleReferences(mapping)) {
    const path = resolve(dirname(configFile), reference.module);
    await checkFile(path, reference.module);
    let loaded: Record<string, unknown>;
    try {
      loaded = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new VerdigrisError('CONFIG_MODULE', `${reference.module} cannot be loaded: ${reason}`, {
        cause: error,
      });
    }
    const found = loaded[reference.export];
    if (typeof found !== 'function') {
      const known = Object.keys(loaded).filter((name) => typeof loaded[name] === 'function');
      throw new VerdigrisError(
        'CONFIG_MODULE',
        `${reference.module} exports no function ${reference.export}; it has: ${known.join(', ') || 'none'}`,
      );
    }
    functions.set(moduleKey(reference.module, reference.export), found as ModuleFunction);
  }
  return functions;
}

async function checkFile(path: string, shown: string): Promise<void> {
  let found;
  try {
    found = await stat(path);
  } catch (error) {
    throw new VerdigrisError(
      'CONFIG_MODULE',
      `${shown} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'})`,
    );
  }
  if ((found.mode & 0o022) !== 0) {
    throw new VerdigrisError(
      'CONFIG_MODULE',
      `${shown} may be written by others (mode ${(found.mode & 0o777).toString(8)})`,
      {
        remedy: `chmod go-w ${path}`,
      },
    );
  }
  const uid = process.getuid?.();
  if (uid !== undefined && found.uid !== uid && found.uid !== 0) {
    throw new VerdigrisError('CONFIG_MODULE', `${shown} belongs to another user (uid ${found.uid})`, {
      remedy: `Only files of the user that runs the engine (uid ${uid}), or of root, are loaded.`,
    });
  }
}
