import { createHash } from 'node:crypto';

/** JSON with sorted keys: one text per value. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value)
      .filter(([, entry]) => entry !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonicalJson(entry)}`).join(',')}}`;
  }
  return JSON.stringify(typeof value === 'bigint' ? value.toString() : (value ?? null));
}

/** SHA-256 over the mapping alone: what decides which rows green holds. */
export const mappingHash = (mapping: unknown): string =>
  createHash('sha256').update(canonicalJson(mapping)).digest('hex');

/** SHA-256 over everything that decides what the run does; no estimates, no clock, no secrets. */
export const planHash = (facts: {
  readonly mapping: unknown;
  readonly configuration: string;
  readonly schemaSql: string | null;
  readonly serverVersions: readonly string[];
}): string => createHash('sha256').update(canonicalJson(facts)).digest('hex');
