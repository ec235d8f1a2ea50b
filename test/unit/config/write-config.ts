import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The smallest valid file; tests change lines of it. */
export const SMALLEST = `version: 1
migration: crm-v2
blue:
  engine: postgres
  url: postgres://app@localhost/old
green:
  engine: postgres
  url: postgres://app@localhost/new
tables:
  - from: public.customers
`;

export interface ConfigFolder extends AsyncDisposable {
  readonly path: string;
  /** Writes `name` and gives its path. */
  write(name: string, text: string, mode?: number): Promise<string>;
}

/** A folder of its own, removed at the end. */
export async function configFolder(): Promise<ConfigFolder> {
  const path = await mkdtemp(join(tmpdir(), 'verdigris-config-'));
  return {
    path,
    write: async (name, text, mode = 0o600) => {
      const file = join(path, name);
      await writeFile(file, text, { mode });
      return file;
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
