// Writes what is generated from the sources: docs/errors.md and config/schema.json.
import { writeFile } from 'node:fs/promises';
import { errorsReference } from '../src/app/errors-reference.ts';
import { configJsonSchema } from '../src/app/schema.ts';

const at = (path: string): URL => new URL(`../${path}`, import.meta.url);

await writeFile(at('docs/errors.md'), errorsReference());
await writeFile(at('config/schema.json'), `${JSON.stringify(await configJsonSchema(), null, 2)}\n`);
