import type { ConfigDocument, Issue } from './document.ts';
import { interpolate, type Surroundings } from './interpolate.ts';
import type { SchemaGuide } from './json-schema.ts';
import { parsePath, pathId, showPath, type ConfigPath } from './path.ts';
import { isSecretKey, secretsIn } from './redact.ts';
import { valueAt } from './schema-issues.ts';

/** Where an effective value came from. */
export type Origin = 'default' | `file:${number}` | `env ${string}` | `--set ${string}` | `flag ${string}`;

/** A value that was given as text and becomes a number or a boolean where the schema wants one. */
interface Given {
  readonly path: ConfigPath;
  readonly text: string;
  readonly origin: Origin | null;
}

export interface Overrides {
  /** `path=value`, in order. */
  readonly set: readonly string[];
  /** Values of command line flags, by path. */
  readonly flags: ReadonlyMap<string, string>;
}

export interface Layered {
  readonly tree: Record<string, unknown>;
  readonly origins: ReadonlyMap<string, Origin>;
  readonly issues: readonly Issue[];
  /** Values that came out of files and commands. */
  readonly secrets: readonly string[];
  /** Some secret is written into the file itself. */
  readonly literalSecret: boolean;
}

const ENV_PREFIX = 'VERDIGRIS__';

/** File, then environment, then `--set`, then flags: the later wins. */
export function layer(
  document: ConfigDocument,
  surroundings: Surroundings,
  overrides: Overrides,
  guide: SchemaGuide,
): Layered {
  const issues: Issue[] = [];
  const secrets: string[] = [];
  const origins = new Map<string, Origin>();
  const given: Given[] = [];
  let literalSecret = false;
  const tree = (document.value ?? {}) as Record<string, unknown>;

  for (const { path, text } of document.texts) {
    const outcome = interpolate(text, surroundings);
    if ('problem' in outcome) {
      issues.push({ path, message: outcome.problem, place: document.place(path, 'value') });
      continue;
    }
    if (isLiteralSecret(path, text)) literalSecret = true;
    if (outcome.secret) secrets.push(outcome.text);
    if (outcome.text === text) continue;
    if (outcome.touched) given.push({ path, text: outcome.text, origin: null });
    else put(tree, path, outcome.text);
  }
  for (const [name, text] of Object.entries(surroundings.env)) {
    if (!name.startsWith(ENV_PREFIX) || text === undefined) continue;
    const path = name
      .slice(ENV_PREFIX.length)
      .split('__')
      .map((part) => (/^\d+$/.test(part) ? Number(part) : part.toLowerCase()));
    given.push({ path, text, origin: `env ${name}` });
  }
  for (const entry of overrides.set) {
    const cut = entry.indexOf('=');
    const path = cut > 0 ? parsePath(entry.slice(0, cut)) : null;
    if (path === null) {
      issues.push({ path: [], message: '--set needs path=value, for example copy.workers=8', place: null });
      continue;
    }
    given.push({ path, text: entry.slice(cut + 1), origin: `--set ${showPath(path)}` });
  }
  for (const [name, text] of overrides.flags) {
    const path = parsePath(name);
    if (path !== null) given.push({ path, text, origin: `flag ${name}` });
  }
  for (const { path, text, origin } of given) {
    if (!put(tree, path, coerce(text, guide.types(path, tree)))) {
      issues.push({
        path,
        message: `${origin ?? ''} leads into a value that is not a map or list`,
        place: null,
      });
    }
    if (origin !== null) origins.set(pathId(path), origin);
  }
  return { tree, origins, issues, secrets, literalSecret };
}

// What is put in, and the words of a `:?message`, are not part of what the file itself holds.
const isLiteralSecret = (path: ConfigPath, text: string): boolean => {
  const own = text.replace(/\$\{[^}]*\}/g, '');
  return secretsIn(own).length > 0 || (own !== '' && isSecretKey(String(path.at(-1) ?? '')));
};

/** Text stays text wherever the schema takes text; only elsewhere it may be a number, a boolean, null, or JSON. */
function coerce(text: string, types: ReadonlySet<string>): unknown {
  if (text === 'null' && types.has('null')) return null;
  if (types.has('string') || types.size === 0) return text;
  if ((types.has('integer') || types.has('number')) && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text))
    return Number(text);
  if (types.has('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  if ((types.has('array') && text.startsWith('[')) || (types.has('object') && text.startsWith('{'))) {
    try {
      return JSON.parse(text) as unknown;
    } catch {
      return text;
    }
  }
  return text;
}

/** Writes into the tree, making maps on the way; false when something else stands there. */
function put(tree: Record<string, unknown>, path: ConfigPath, value: unknown): boolean {
  let parent: unknown = tree;
  for (const [index, part] of path.slice(0, -1).entries()) {
    if (parent === null || typeof parent !== 'object') return false;
    const existing = valueAt(parent, [part]);
    if (existing === undefined || existing === null) {
      define(parent, part, typeof path[index + 1] === 'number' ? [] : {});
    }
    parent = valueAt(parent, [part]);
  }
  if (parent === null || typeof parent !== 'object') return false;
  const last = path.at(-1) as string | number;
  if (Array.isArray(parent) && (typeof last !== 'number' || last > parent.length)) return false;
  define(parent, last, value);
  return true;
}

// Not an assignment: a key called __proto__ is a key like any other.
const define = (parent: object, key: string | number, value: unknown): void => {
  Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true });
};
