import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { Document, Node, Pair } from 'yaml';
import { pathId, type ConfigPath } from './path.ts';

/** Where something stands; lines and columns count from 1. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One thing wrong with the configuration. The message never holds a value. */
export interface Issue {
  readonly path: ConfigPath;
  readonly message: string;
  readonly place: Place | null;
  /** The known key that was probably meant. */
  readonly nearest?: string;
}

/** A string of the file, before interpolation. */
export interface TextLeaf {
  readonly path: ConfigPath;
  readonly text: string;
}

/** A YAML file as plain values that remember where they stood. */
export interface ConfigDocument {
  readonly value: unknown;
  readonly texts: readonly TextLeaf[];
  readonly issues: readonly Issue[];
  /** Of the value, or of the key where `at` says so. Null when the file does not have it. */
  place(path: ConfigPath, at: 'key' | 'value'): Place | null;
}

// Values that may come out of aliases; a file that grows past this is a mistake or an attack (each alias doubling the one
// before).
const MOST_EXPANDED = 10_000;

/** Reads YAML 1.2. Duplicate keys, syntax errors and numbers that would lose digits become issues. */
export function readDocument(source: string, file: string): ConfigDocument {
  const lines = new LineCounter();
  const document = parseDocument(source, {
    version: '1.2',
    lineCounter: lines,
    uniqueKeys: true,
    prettyErrors: false,
  });
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const reader = new Reader(document, at);
  for (const error of [...document.errors, ...document.warnings]) {
    const duplicate = error.code === 'DUPLICATE_KEY';
    const key = duplicate ? (/^[\w.*-]+/.exec(source.slice(error.pos[0]))?.[0] ?? '') : '';
    reader.issues.push({
      path: [],
      message: duplicate ? `the key ${key} is there twice` : `not valid YAML: ${error.message}`,
      place: at(error.pos[0]),
    });
  }
  const value = document.errors.length > 0 ? undefined : reader.read(document.contents, []);
  const usable = !reader.exploded;
  return {
    value: usable ? value : undefined,
    texts: reader.texts,
    issues: reader.issues,
    place: (path, which) =>
      (which === 'key' ? reader.keys.get(pathId(path)) : undefined) ??
      reader.values.get(pathId(path)) ??
      null,
  };
}

class Reader {
  readonly issues: Issue[] = [];
  readonly texts: TextLeaf[] = [];
  readonly keys = new Map<string, Place>();
  readonly values = new Map<string, Place>();
  readonly #document: Document.Parsed;
  readonly #at: (offset: number) => Place;
  readonly #resolved = new Map<Node, Node | null>();
  /** Depth of aliases around the current node. */
  #inside = 0;
  #expanded = 0;

  constructor(document: Document.Parsed, at: (offset: number) => Place) {
    this.#document = document;
    this.#at = at;
  }

  get exploded(): boolean {
    return this.#expanded > MOST_EXPANDED;
  }

  read(node: Node | null, path: ConfigPath): unknown {
    if (node === null || this.exploded) return null;
    if (this.#inside > 0 && ++this.#expanded > MOST_EXPANDED) {
      this.#issue(path, 'the aliases of this file expand to too much', node);
      return null;
    }
    if (node.range) this.values.set(pathId(path), this.#at(node.range[0]));
    if (isAlias(node)) {
      let target = this.#resolved.get(node);
      if (target === undefined) {
        target = node.resolve(this.#document) ?? null;
        this.#resolved.set(node, target);
      }
      this.#inside++;
      const value = this.read(target, path);
      this.#inside--;
      return value;
    }
    if (isMap<Node, Node | null>(node)) return this.#map(node.items, path);
    if (isSeq<Node | null>(node)) return node.items.map((item, index) => this.read(item, [...path, index]));
    if (!isScalar(node)) return null;
    const { value } = node;
    if (typeof value === 'string') this.texts.push({ path, text: value });
    else if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
      this.#issue(path, 'the number has more digits than can be kept; write it in quotes', node);
    } else if (value !== null && typeof value === 'object') {
      this.#issue(path, 'this kind of YAML value is not used here; write it in quotes', node);
      return null;
    }
    return value;
  }

  #map(items: readonly Pair<Node, Node | null>[], path: ConfigPath): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    for (const { key, value } of items) {
      if (!isScalar(key)) {
        this.#issue(path, 'a key must be plain text', key);
        continue;
      }
      // The text as written: `01` and `1` are two keys of a value map.
      const name = key.source ?? String(key.value);
      const here = [...path, name];
      if (key.range) this.keys.set(pathId(here), this.#at(key.range[0]));
      if (Object.hasOwn(result, name)) {
        this.#issue(here, `the key ${name} is there twice`, key);
        continue;
      }
      const child = this.read(value, here);
      if (value === null && key.range) this.values.set(pathId(here), this.#at(key.range[0]));
      Object.defineProperty(result, name, {
        value: child,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return result;
  }

  #issue(path: ConfigPath, message: string, node: Node | null): void {
    this.issues.push({ path, message, place: node?.range ? this.#at(node.range[0]) : null });
  }
}
