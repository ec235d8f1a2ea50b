import type { ConfigPath } from './path.ts';

interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly items?: SchemaNode | boolean;
  readonly prefixItems?: readonly SchemaNode[];
  readonly anyOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
  readonly allOf?: readonly SchemaNode[];
  readonly $ref?: string;
}

/** Looks things up in a JSON schema: which keys and types are known at a path. Alternatives count together. */
export class SchemaGuide {
  readonly #root: SchemaNode;

  constructor(schema: object) {
    this.#root = schema;
  }

  /** Keys that may stand in the map at this path. */
  keys(path: ConfigPath): string[] {
    return [...new Set(this.#at(path).flatMap((node) => Object.keys(node.properties ?? {})))];
  }

  /** Whether the map at this path refuses this key. */
  refuses(path: ConfigPath, key: string): boolean {
    const maps = this.#at(path).filter(
      (node) => node.properties !== undefined || node.additionalProperties !== undefined,
    );
    return (
      maps.length > 0 &&
      maps.every((node) => !Object.hasOwn(node.properties ?? {}, key) && node.additionalProperties === false)
    );
  }

  /**
   * JSON types that a value at this path may have; empty when anything goes. Of alternatives only those count that `tree` does not
   * rule out by a fixed value: which proxy adapter it is decides what its keys may hold.
   */
  types(path: ConfigPath, tree?: unknown): Set<string> {
    const types = new Set<string>();
    for (const node of this.#at(path, tree)) {
      for (const type of typeof node.type === 'string' ? [node.type] : (node.type ?? [])) types.add(type);
      if (node.const !== undefined) types.add(node.const === null ? 'null' : typeof node.const);
    }
    return types;
  }

  #at(path: ConfigPath, tree?: unknown): SchemaNode[] {
    let nodes = this.#expand(this.#root, 0);
    let value = tree;
    for (const part of path) {
      nodes = nodes.filter((node) => !ruledOut(node, value)).flatMap((node) => this.#step(node, part));
      value =
        typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[part] : undefined;
    }
    return nodes;
  }

  #step(node: SchemaNode, part: string | number): SchemaNode[] {
    const next: (SchemaNode | boolean | undefined)[] = [];
    if (typeof part === 'number') next.push(node.prefixItems?.[part] ?? node.items);
    else if (node.properties && Object.hasOwn(node.properties, part)) next.push(node.properties[part]);
    else next.push(node.additionalProperties);
    return next.flatMap((found) => (typeof found === 'object' ? this.#expand(found, 0) : []));
  }

  #expand(node: SchemaNode, depth: number): SchemaNode[] {
    if (depth > 20) return [];
    const found = [node];
    for (const inner of [...(node.anyOf ?? []), ...(node.oneOf ?? []), ...(node.allOf ?? [])]) {
      found.push(...this.#expand(inner, depth + 1));
    }
    if (node.$ref !== undefined) found.push(...this.#expand(this.#resolve(node.$ref), depth + 1));
    return found;
  }

  #resolve(reference: string): SchemaNode {
    let node: unknown = this.#root;
    for (const part of reference.replace(/^#\/?/, '').split('/').filter(Boolean)) {
      node = (node as Record<string, unknown> | undefined)?.[
        part.replaceAll('~1', '/').replaceAll('~0', '~')
      ];
    }
    return (node ?? {}) as SchemaNode;
  }
}

/** A key that this alternative fixes has another value. */
function ruledOut(node: SchemaNode, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(node.properties ?? {}).some(([key, property]) => {
    const found = (value as Record<string, unknown>)[key];
    return property.const !== undefined && found !== undefined && found !== property.const;
  });
}
