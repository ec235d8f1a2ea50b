import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { VerdigrisError } from '../core/errors.ts';
import type { Engine } from '../core/engine.ts';
import type { ProxyFactory } from '../core/proxy.ts';
import { configSchema, SIDE_KEYS, type Config } from './config.ts';
import { readDocument, type ConfigDocument, type Issue, type Place } from './document.ts';
import { SchemaGuide } from './json-schema.ts';
import { layer, type Origin } from './layers.ts';
import { nearest } from './nearest.ts';
import { pathId, showPath, type ConfigPath } from './path.ts';
import { collectSecrets } from './redact.ts';
import { engineNames, loadEngine, loadProxy, proxyNames } from './registry.ts';
import { flattenIssues, valueAt } from './schema-issues.ts';
import { configJsonSchema } from './schema.ts';

export interface LoadOptions {
  /** `path=value`, stronger than file and environment. */
  readonly set?: readonly string[];
  /** Values of flags by path, stronger than everything. */
  readonly flags?: ReadonlyMap<string, string>;
  /** Default: the environment of this process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** A file of NAME=value lines; the environment wins. */
  readonly envFile?: string;
  /** Allows `${cmd:…}`. */
  readonly allowExec?: boolean;
}

/** A side as its engine understands it. */
export interface LoadedSide {
  /** What the engine's own check returned. */
  readonly config: unknown;
  readonly stateSchema: string;
}

/** A checked configuration, ready to be run. */
export interface LoadedConfig {
  /** Absolute. */
  readonly file: string;
  /** As it was named, for messages. */
  readonly shownFile: string;
  readonly config: Config;
  readonly engine: Engine;
  readonly blue: LoadedSide;
  readonly green: LoadedSide;
  readonly proxies: readonly { readonly factory: ProxyFactory; readonly config: unknown }[];
  /** By path id; what is not there is a default. */
  readonly origins: ReadonlyMap<string, Origin>;
  /** Passwords and contents of secret files, for the redaction of logs. */
  readonly secrets: readonly string[];
  readonly warnings: readonly string[];
  /** Where a value (or what is nearest above it) stands in the file; null when it came from elsewhere. */
  locate(path: ConfigPath): Place | null;
}

/**
 * Reads, interpolates, overrides and checks the configuration file.
 * @throws VerdigrisError CONFIG_NOT_FOUND, CONFIG_INVALID, CONFIG_SECRET, CONFIG_ENGINES_DIFFER; `context.issues` holds all
 * that is wrong with file, line, column, path and the nearest known key.
 */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<LoadedConfig> {
  const path = resolve(file);
  const source = await readSource(path, file);
  const document = readDocument(source, file);
  if (document.value === undefined) throw invalid(file, document.issues);
  const warnings: string[] = [];
  const fromFile =
    options.envFile === undefined
      ? {}
      : parseEnv(await readSource(resolve(options.envFile), options.envFile));
  const env = { ...fromFile, ...(options.env ?? process.env) };
  // An engine may be named by any of these, and nowhere else but in a file or by a command, whose keys are then checked all the same.
  const texts = [source, ...Object.values(env), ...(options.set ?? []), ...(options.flags?.values() ?? [])];
  const guide = new SchemaGuide(
    await configJsonSchema((name) => texts.some((text) => text?.includes(name) === true)),
  );
  const layers = layer(
    document,
    { env, folder: dirname(path), allowExec: options.allowExec ?? false },
    { set: options.set ?? [], flags: options.flags ?? new Map() },
    guide,
  );
  const issues: Issue[] = [...document.issues, ...layers.issues];
  // A value that could not be put in is reported once, not again as a malformed one.
  const reported = new Set(layers.issues.map((issue) => pathId(issue.path)));
  const where = new Places(document, layers.origins, layers.tree);
  const report = (at: ConfigPath, message: string, known?: SchemaGuide, base: ConfigPath = []): void => {
    if (reported.has(pathId(at))) return;
    issues.push(where.issue(at, message, known ?? guide, base));
  };

  const result = configSchema.safeParse(layers.tree);
  if (!result.success) {
    for (const issue of flattenIssues(result.error.issues, layers.tree)) report(issue.path, issue.message);
  }
  const blue = await checkSide('blue', layers.tree, report);
  const green = await checkSide('green', layers.tree, report);
  const proxies = await checkProxies(layers.tree, report);
  if (blue && green && blue.engine !== green.engine) {
    report(
      ['green', 'engine'],
      `blue is ${blue.engine.name} and green is ${green.engine.name}; both must be of one engine`,
    );
  }
  if (issues.length > 0 || !result.success || !blue || !green) {
    throw invalid(file, issues, blue !== null && green !== null && blue.engine !== green.engine);
  }
  const config = result.data;
  const { mode } = await stat(path);
  if (layers.literalSecret && (mode & 0o077) !== 0) {
    warnings.push(
      `${file} holds a secret and others may read it (mode ${(mode & 0o777).toString(8)}): chmod 600, or use \${VAR} or \${file:…}`,
    );
  }
  return {
    file: path,
    shownFile: file,
    config,
    engine: blue.engine,
    blue: { config: blue.config, stateSchema: config.blue.state_schema },
    green: { config: green.config, stateSchema: config.green.state_schema },
    proxies,
    origins: where.origins,
    secrets: [...layers.secrets, ...collectSecrets(layers.tree)],
    warnings,
    locate: (at) => where.nearest(at),
  };
}

type Report = (at: ConfigPath, message: string, known?: SchemaGuide, base?: ConfigPath) => void;

/** Hands a side's own keys to its engine. Null when there is nothing to hand over or it was refused. */
async function checkSide(
  side: 'blue' | 'green',
  tree: unknown,
  report: Report,
): Promise<{ readonly engine: Engine; readonly config: unknown } | null> {
  const block = valueAt(tree, [side]);
  if (block === null || typeof block !== 'object') return null;
  const { engine: name } = block as { engine?: unknown };
  if (typeof name !== 'string') return null;
  const engine = await loadEngine(name);
  if (engine === null) {
    report([side, 'engine'], `there is no engine of this name; known: ${engineNames().join(', ')}`);
    return null;
  }
  const generic = side === 'blue' ? SIDE_KEYS.filter((key) => key !== 'schema_file') : SIDE_KEYS;
  const own = Object.fromEntries(Object.entries(block).filter(([key]) => !generic.includes(key)));
  const checked = engine.parseConfig(own);
  if ('config' in checked) return { engine, config: checked.config };
  for (const issue of checked.issues) report([side, ...issue.path], issue.message);
  return null;
}

async function checkProxies(tree: unknown, report: Report): Promise<LoadedConfig['proxies']> {
  const list = valueAt(tree, ['cutover', 'proxies']);
  if (!Array.isArray(list)) return [];
  const loaded: { factory: ProxyFactory; config: unknown }[] = [];
  for (const [index, entry] of (list as unknown[]).entries()) {
    const at = ['cutover', 'proxies', index];
    const { adapter, ...own } = (entry ?? {}) as { adapter?: unknown; [key: string]: unknown };
    if (typeof adapter !== 'string') continue;
    const factory = await loadProxy(adapter);
    if (factory === null) {
      report([...at, 'adapter'], `there is no adapter of this name; known: ${proxyNames().join(', ')}`);
      continue;
    }
    const checked = factory.parseConfig(own);
    if ('config' in checked) loaded.push({ factory, config: checked.config });
    // The adapters' keys differ: only those of this one are candidates for what was meant.
    else
      for (const issue of checked.issues)
        report([...at, ...issue.path], issue.message, new SchemaGuide(factory.jsonSchema()), at);
  }
  return loaded;
}

/** Finds lines, columns and nearest keys. */
class Places {
  readonly origins = new Map<string, Origin>();
  readonly #document: ConfigDocument;
  readonly #tree: unknown;

  constructor(document: ConfigDocument, overrides: ReadonlyMap<string, Origin>, tree: unknown) {
    this.#document = document;
    this.#tree = tree;
    this.#collect(tree, []);
    for (const [id, origin] of overrides) this.origins.set(id, origin);
  }

  /** The place of the path, or of the deepest map above it. */
  nearest(path: ConfigPath): Place | null {
    for (let length = path.length; length >= 0; length--) {
      const place = this.#document.place(path.slice(0, length), length === path.length ? 'value' : 'key');
      if (place) return place;
    }
    return null;
  }

  issue(path: ConfigPath, message: string, guide: SchemaGuide, base: ConfigPath): Issue {
    const origin = this.origins.get(pathId(path));
    const elsewhere = origin !== undefined && !origin.startsWith('file:');
    const key = path.at(-1);
    const parent = path.slice(base.length, -1);
    const unknown =
      typeof key === 'string' && valueAt(this.#tree, path) !== undefined && guide.refuses(parent, key);
    const meant = unknown ? nearest(key, guide.keys(parent)) : null;
    const place = elsewhere
      ? null
      : ((unknown ? this.#document.place(path, 'key') : null) ?? this.nearest(path));
    return {
      path,
      message: elsewhere ? `${message} (from ${origin})` : message,
      place,
      ...(meant === null ? {} : { nearest: meant }),
    };
  }

  #collect(value: unknown, path: ConfigPath): void {
    const place = this.#document.place(path, 'value');
    if (place) this.origins.set(pathId(path), `file:${place.line}`);
    if (value === null || typeof value !== 'object') return;
    for (const [key, inner] of Object.entries(value)) {
      this.#collect(inner, [...path, Array.isArray(value) ? Number(key) : key]);
    }
  }
}

async function readSource(path: string, shown: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'error';
    throw new VerdigrisError('CONFIG_NOT_FOUND', `${shown} cannot be read (${reason})`, {
      context: { file: path },
    });
  }
}

/** `file:line:column path: message; nearest known key: x`, one line per issue. */
export function showIssue(issue: Issue): string {
  const place = issue.place ? `${issue.place.file}:${issue.place.line}:${issue.place.column} ` : '';
  const at = issue.path.length === 0 ? '' : `${showPath(issue.path)}: `;
  return `${place}${at}${issue.message}${issue.nearest === undefined ? '' : `; nearest known key: ${issue.nearest}`}`;
}

const isMissingSecret = (issue: Issue): boolean =>
  /^the (environment variable|file) .* (is not set|cannot be read)/s.test(issue.message);

/** One error for all issues of a file, in the order of the file. */
export function invalid(file: string, issues: readonly Issue[], enginesDiffer = false): VerdigrisError {
  const order = (issue: Issue): number => (issue.place ? issue.place.line * 10_000 + issue.place.column : 0);
  const sorted = [...issues].sort((left, right) => order(left) - order(right));
  const code =
    enginesDiffer && sorted.length === 1
      ? 'CONFIG_ENGINES_DIFFER'
      : sorted.every(isMissingSecret)
        ? 'CONFIG_SECRET'
        : 'CONFIG_INVALID';
  const head = `${file} has ${sorted.length === 1 ? 'a problem' : `${sorted.length} problems`}`;
  return new VerdigrisError(code, [head, ...sorted.map((issue) => `  ${showIssue(issue)}`)].join('\n'), {
    context: {
      issues: sorted.map(({ path, message, place, nearest: meant }) => ({
        path: showPath(path),
        message,
        file: place?.file ?? null,
        line: place?.line ?? null,
        column: place?.column ?? null,
        nearest: meant ?? null,
      })),
    },
  });
}
