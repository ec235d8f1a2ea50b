import type { LoadedConfig } from './load.ts';
import { pathId, showPath, type ConfigPath } from './path.ts';
import { Redactor } from './redact.ts';

/** The whole effective configuration, defaults included, as it would be written in the file. Secrets are masked. */
export function effectiveConfig(loaded: LoadedConfig): Record<string, unknown> {
  const { config, blue, green, proxies } = loaded;
  const tree = {
    ...config,
    blue: { engine: config.blue.engine, state_schema: config.blue.state_schema, ...(blue.config as object) },
    green: {
      engine: config.green.engine,
      ...(config.green.schema_file === undefined ? {} : { schema_file: config.green.schema_file }),
      state_schema: config.green.state_schema,
      ...(green.config as object),
    },
    cutover: {
      ...config.cutover,
      proxies: proxies.map(({ factory, config: own }) => ({ adapter: factory.name, ...(own as object) })),
    },
  };
  return new Redactor(loaded.secrets).value(tree) as Record<string, unknown>;
}

export interface ShownValue {
  readonly path: string;
  readonly value: unknown;
  /** `default`, `file:12`, `env NAME`, `--set path`. */
  readonly origin: string;
}

/** Each leaf with where it came from. */
export function configOrigins(loaded: LoadedConfig): ShownValue[] {
  const shown: ShownValue[] = [];
  const visit = (value: unknown, path: ConfigPath): void => {
    if (value !== null && typeof value === 'object' && Object.keys(value).length > 0) {
      for (const [key, inner] of Object.entries(value))
        visit(inner, [...path, Array.isArray(value) ? Number(key) : key]);
      return;
    }
    if (value === undefined) return;
    shown.push({ path: showPath(path), value, origin: originOf(loaded, path) });
  };
  visit(effectiveConfig(loaded), []);
  return shown;
}

function originOf(loaded: LoadedConfig, path: ConfigPath): string {
  const own = loaded.origins.get(pathId(path));
  if (own !== undefined) return own;
  // A whole list or map may have been given at once (--set tables=[…]).
  for (let length = path.length - 1; length > 0; length--) {
    const above = loaded.origins.get(pathId(path.slice(0, length)));
    if (above !== undefined && !above.startsWith('file:')) return above;
  }
  return 'default';
}

/**
 * What of the configuration belongs to the plan: everything that decides what happens to data, without secrets. A new
 * password, another folder for the socket or a better description do not make a plan stale.
 */
export function planConfiguration(loaded: LoadedConfig): string {
  const { description: _, server: __, ...rest } = effectiveConfig(loaded);
  return canonicalJson(rest);
}

/** JSON with sorted keys: the same value always gives the same text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value ?? null);
  return `{${Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`)
    .join(',')}}`;
}
