import type { Engine } from '../core/engine.ts';
import { VerdigrisError } from '../core/errors.ts';
import { NO_FAILPOINTS } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import { showTable, type Relation } from '../core/table.ts';
import { engineNames, loadEngine } from './registry.ts';

/** The engine that takes this address; null when none does, or more than one. */
export async function engineOf(url: string): Promise<string | null> {
  const taking: string[] = [];
  for (const name of engineNames()) {
    const checked = (await loadEngine(name))?.parseConfig({ url });
    if (checked && !('issues' in checked)) taking.push(name);
  }
  return taking.length === 1 ? (taking[0] as string) : null;
}

/** An engine and its configuration for an address alone. @throws VerdigrisError USAGE */
export async function addressed(
  engineName: string,
  url: string,
): Promise<{ readonly engine: Engine; readonly config: unknown }> {
  const engine = await loadEngine(engineName);
  if (!engine)
    throw new VerdigrisError('USAGE', `there is no engine ${engineName}; known: ${engineNames().join(', ')}`);
  const checked = engine.parseConfig({ url });
  if ('issues' in checked) {
    const wrong = checked.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new VerdigrisError('USAGE', `the address is not usable: ${wrong.join('; ')}`);
  }
  return { engine, config: checked.config };
}

/**
 * The tables of a database that can be replicated, for `init`. Reads only.
 * @throws VerdigrisError USAGE, SOURCE_CONNECT
 */
export async function introspect(engineName: string, url: string, log: Logger): Promise<Relation[]> {
  const { engine, config } = await addressed(engineName, url);
  await using session = await engine.connect(config, {
    migration: 'init',
    side: 'blue',
    stateSchema: 'verdigris',
    log,
    failpoints: NO_FAILPOINTS,
  });
  const relations: Relation[] = [];
  for (const table of await session.catalog.tables()) relations.push(await session.catalog.source(table));
  return relations;
}

/** A configuration file that copies these tables as they are, with comments where to go on. Holds no address. */
export function starterConfig(engineName: string, migration: string, relations: readonly Relation[]): string {
  const tables = relations.map((relation) => {
    const columns = relation.columns.map(({ name, type }) => `${name} ${type}`).join(', ');
    const key =
      relation.key.length === 0 ? '    # no key: it is copied in one range and compared as a whole\n' : '';
    return `  - from: ${yamlText(showTable(relation.table))}\n    # ${oneLine(columns)}\n${key}`;
  });
  return `# yaml-language-server: $schema=./node_modules/verdigris/config/schema.json
version: 1
migration: ${migration}                # name used in slots, state, metrics and in the typed confirmation

blue:                                  # the database that serves now
  engine: ${engineName}
  url: \${BLUE_URL:?set BLUE_URL}

green:                                 # the database that will serve
  engine: ${engineName}
  url: \${GREEN_URL:?set GREEN_URL}
  # schema_file: ./green.sql           # green's DDL, applied by \`start\` when its tables do not exist

# Without \`to\` a table goes to the table of the same name, every column as it is. To reshape it:
#     to:
#       - table: shop.client
#         columns:
#           "*": copy
#           id: { from: id, cast: bigint }
#           email: { from: email, op: [trim, lower] }
tables:
${tables.join('')}
cutover:
  max_write_pause: 10s                 # past this and before the switch: undo
  # proxies:
  #   - adapter: pgbouncer             # see \`verdigris config schema\` for its keys
`;
}

const yamlText = (text: string): string => (/^[a-z_][\w.]*$/.test(text) ? text : JSON.stringify(text));
const oneLine = (text: string): string => text.replace(/[\u0000-\u001f\u007f\u0085\u2028\u2029]+/g, ' ');
