import { stringify } from 'yaml';
import { configJsonSchema } from '../../app/schema.ts';
import { configOrigins, effectiveConfig } from '../../app/show.ts';
import type { CommandContext, Outcome } from '../context.ts';

export async function configCheck(context: CommandContext): Promise<Outcome> {
  const { config } = await context.load();
  return {
    kind: 'ConfigCheck',
    data: { file: context.configFile, migration: config.migration, tables: config.tables.length },
    text: `${context.configFile} is valid: migration ${config.migration}, ${config.tables.length} table entries`,
  };
}

export async function configShow(
  context: CommandContext,
  options: { readonly origin?: boolean },
): Promise<Outcome> {
  const loaded = await context.load();
  if (!options.origin) {
    const data = effectiveConfig(loaded);
    return { kind: 'Config', data, text: stringify(data).trimEnd() };
  }
  const shown = configOrigins(loaded);
  const lines = shown.map(({ path, value, origin }) => ({
    left: `${path} = ${JSON.stringify(value)}`,
    origin,
  }));
  const width = Math.min(80, Math.max(...lines.map(({ left }) => left.length)));
  return {
    kind: 'ConfigOrigins',
    data: shown,
    text: lines.map(({ left, origin }) => `${left.padEnd(width)}  # ${origin}`).join('\n'),
  };
}

export async function configSchema(): Promise<Outcome> {
  const schema = await configJsonSchema();
  return { kind: 'ConfigSchema', data: schema, text: JSON.stringify(schema, null, 2) };
}
