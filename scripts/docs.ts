// Writes what is generated: docs/errors.md and config/schema.json from the sources, docs/kill-matrix.md from the results that are stored.
import { writeFile } from 'node:fs/promises';
import { errorsReference } from '../src/app/errors-reference.ts';
import { configJsonSchema } from '../src/app/schema.ts';
import { keepResults } from '../test/chaos/kill/results.ts';

const at = (path: string): URL => new URL(`../${path}`, import.meta.url);

await writeFile(at('docs/errors.md'), errorsReference());
await writeFile(at('config/schema.json'), `${JSON.stringify(await configJsonSchema(), null, 2)}\n`);
await keepResults({});
