import { z } from 'zod';
import { configSchema } from './config.ts';
import { engineNames, loadEngine, loadProxy, proxyNames } from './registry.ts';

type Json = Record<string, unknown>;

/**
 * The JSON schema of the whole file, with what each engine and each proxy adapter adds, for editors
 * (`config/schema.json`, `verdigris config schema`) and for the nearest known key in messages.
 * @param wanted the engines and adapters that it is about; others are not loaded: their drivers are some 0.2 s of every start
 */
export async function configJsonSchema(wanted: (name: string) => boolean = () => true): Promise<Json> {
  const schema = z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }) as Json;
  const properties = schema['properties'] as Record<string, Json>;
  const definitions: Json = { ...(schema['$defs'] as Json | undefined) };
  const add = (name: string, part: object): Json => {
    const { $schema: _, ...rest } = part as Json;
    return hoist(rest, name, definitions);
  };
  // Where none is wanted it is not known yet which one is meant.
  const known = engineNames().filter(wanted);
  const engines = await Promise.all(
    (known.length > 0 ? known : engineNames()).map(async (name) => ({
      name,
      schema: add(name, (await loadEngine(name))?.jsonSchema() ?? {}),
    })),
  );
  for (const side of ['blue', 'green']) {
    properties[side] = variants(properties[side] as Json, 'engine', engines);
  }
  const proxies = await Promise.all(
    proxyNames()
      .filter(wanted)
      .map(async (name) => ({
        name,
        schema: add(name, (await loadProxy(name))?.jsonSchema() ?? {}),
      })),
  );
  const list = (properties['cutover'] as { properties: Record<string, Json> }).properties['proxies'] as Json;
  if (proxies.length > 0) list['items'] = variants(list['items'] as Json, 'adapter', proxies);
  return {
    $schema: schema['$schema'],
    title: 'verdigris',
    ...schema,
    ...(Object.keys(definitions).length > 0 ? { $defs: definitions } : {}),
  };
}

/** One closed map per kind: the generic keys, the kind itself as a constant, and the keys of that kind. */
function variants(
  generic: Json,
  discriminator: string,
  kinds: readonly { name: string; schema: Json }[],
): Json {
  const own = generic['properties'] as Record<string, Json>;
  const branches = kinds.map(({ name, schema }) => ({
    type: 'object',
    properties: {
      ...own,
      [discriminator]: { ...own[discriminator], const: name },
      ...(schema['properties'] as Json | undefined),
    },
    required: [
      ...new Set([
        ...((generic['required'] as string[] | undefined) ?? []),
        ...((schema['required'] as string[] | undefined) ?? []),
      ]),
    ],
    additionalProperties: false,
  }));
  const description = generic['description'] === undefined ? {} : { description: generic['description'] };
  return branches.length === 1 ? { ...description, ...branches[0] } : { ...description, oneOf: branches };
}

/** Moves a part's own definitions to the top, under names that cannot collide. */
function hoist(part: Json, prefix: string, definitions: Json): Json {
  const own = part['$defs'] as Json | undefined;
  if (own === undefined) return part;
  const { $defs: _, ...rest } = part;
  const renamed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(renamed);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) =>
        key === '$ref' && typeof inner === 'string'
          ? [key, inner.replace('#/$defs/', `#/$defs/${prefix}.`)]
          : [key, renamed(inner)],
      ),
    );
  };
  for (const [name, schema] of Object.entries(own)) definitions[`${prefix}.${name}`] = renamed(schema);
  return renamed(rest) as Json;
}
