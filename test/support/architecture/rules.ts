import { builtinModules } from 'node:module';
import { posix } from 'node:path';

import { findCycles, type Import, importsOf } from './imports.ts';
import { splitSource } from './source-text.ts';

export interface Violation {
  /** Short name of the rule, stable, for the test of the rules themselves. */
  rule: string;
  file: string;
  detail: string;
}

/** Sources by their path below the checkout (`src/core/table.ts`). */
export type Sources = ReadonlyMap<string, string>;

/** Who may import whom, by the first folder below src; a folder may always import itself. Engines and proxies may import their own folder. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  transform: ['core'],
  pipeline: ['core'],
  verify: ['core'],
  cutover: ['core'],
  orchestrator: ['core', 'transform', 'pipeline', 'verify', 'cutover'],
  engines: ['core'],
  proxies: ['core'],
  // The mapping is part of the configuration, whose schema app puts together.
  app: ['core', 'orchestrator', 'transform'],
  // It drives the engine that `start` drives.
  bench: ['core', 'app'],
  // `start` is the process that also serves the API.
  cli: ['core', 'app', 'bench', 'http'],
  http: ['core', 'app'],
  // The public API is what the package offers; it gathers from everywhere but the engines and proxies.
  'index.ts': ['core', 'transform', 'pipeline', 'verify', 'cutover', 'orchestrator', 'app'],
};

const REGISTRY = 'src/app/registry.ts';
/** Loads the functions that a mapping names by path: files of the operator, not of this project. */
const OPERATORS_MODULES = 'src/app/modules.ts';

/** Node modules without I/O, state or time: the only ones that the language of the project may use. */
const PURE_NODE_MODULES = ['node:util', 'node:buffer'];

/** Drivers, and whose they are. A proxy may import one when the proxy speaks that protocol. */
const DRIVER_OWNERS: Readonly<Record<string, string>> = {
  pg: 'postgres',
  'pg-logical-replication': 'postgres',
  'pg-copy-streams': 'postgres',
  mysql2: 'mysql',
  '@vlasky/zongji': 'mysql',
  mongodb: 'mongodb',
};

/** Words that belong to one engine. MySQL and MariaDB are one engine here. */
const ENGINE_WORDS: Readonly<Record<string, RegExp>> = {
  postgres: /postgres|pgoutput|\blsn\b|\bpg_\w+/i,
  mysql: /mysql|mariadb|\bbinlog\b|\bgtid/i,
  mongodb: /mongo|\boplog\b/i,
};

const PROCESS_USE =
  /\bprocess\s*\.\s*(?:env|exit\w*|abort|kill|argv|stdin|stdout|stderr|on|once|off|addListener|removeListener|prependListener)\b/;
const BANNED_NAMES = /(?:^|-)(?:utils?|helpers?|common|types|misc|manager)$|^(?:base|abstract)(?:-|$)/;
const MAX_LINES = 600;
export const LONG_LINES = 400;

/** Every breach of the import rule and of the habits that a machine can see. */
export function checkSources(sources: Sources): Violation[] {
  const found: Violation[] = [];
  const graph = new Map<string, string[]>();
  for (const [file, text] of sources) {
    const report = (rule: string, detail: string): void => void found.push({ rule, file, detail });
    checkName(file, report);
    checkEngineWords(file, text, report);
    const lines = text.split('\n').length;
    if (lines > MAX_LINES) report('too long', `${lines} lines; more than ${MAX_LINES} hold two ideas`);
    if (!file.endsWith('.ts')) continue;
    const { imports, computed } = importsOf(file, text);
    for (const line of file === OPERATORS_MODULES ? [] : computed)
      report('computed import', `line ${line}: the rules cannot see where this leads`);
    for (const one of imports) checkImport(file, one, sources, report);
    graph.set(
      file,
      imports.flatMap((one) => (one.target === undefined || one.kind === 'dynamic' ? [] : [one.target])),
    );
    checkCode(file, text, report);
  }
  for (const cycle of findCycles(graph)) {
    found.push({ rule: 'cycle', file: cycle[0] ?? '', detail: cycle.join(' -> ') });
  }
  return found;
}

type Report = (rule: string, detail: string) => void;

function checkImport(file: string, one: Import, sources: Sources, report: Report): void {
  const where = `line ${one.line}: ${one.specifier}`;
  if (one.target === undefined) {
    checkPackage(file, one, where, report);
    return;
  }
  if (!sources.has(one.target)) {
    report('unresolved import', where);
    return;
  }
  const from = placeOf(file);
  const to = placeOf(one.target);
  if (to.part !== undefined && !(from.layer === to.layer && from.part === to.part)) {
    const allowed =
      file === REGISTRY && one.kind === 'dynamic' && one.target.endsWith(`/${to.part}/index.ts`);
    if (!allowed)
      report('engine import', `${where}; only ${REGISTRY} may, with import(), and only an index.ts`);
    return;
  }
  if (from.layer !== to.layer && !(MAY_IMPORT[from.layer] ?? []).includes(to.layer)) {
    report(
      'layer',
      `${where}; ${from.layer} may import ${(MAY_IMPORT[from.layer] ?? []).join(', ') || 'nothing'}`,
    );
  }
  if (one.target === 'src/index.ts')
    report('barrel', `${where}; inside the project, import the file that has it`);
}

function checkPackage(file: string, one: Import, where: string, report: Report): void {
  const from = placeOf(file);
  if (from.layer === 'core' && !PURE_NODE_MODULES.includes(one.specifier)) {
    report(
      'core import',
      `${where}; core may import ${PURE_NODE_MODULES.join(' and ')} and nothing else from outside`,
    );
  }
  if (builtinModules.includes(one.specifier)) report('node prefix', `${where}; write node:${one.specifier}`);
  if (one.specifier === 'node:process') report('process', `${where}; process belongs to app and cli`);
  const name = one.specifier
    .split('/')
    .slice(0, one.specifier.startsWith('@') ? 2 : 1)
    .join('/');
  const owner = DRIVER_OWNERS[name];
  const isOwner = (from.layer === 'engines' && from.part === owner) || from.layer === 'proxies';
  if (owner !== undefined && !isOwner)
    report('driver', `${where}; the driver belongs to src/engines/${owner}`);
}

function checkCode(file: string, text: string, report: Report): void {
  const { codeOnly } = splitSource(text);
  const { layer } = placeOf(file);
  const top = layer === 'app' || layer === 'cli';
  for (const [index, line] of codeOnly.split('\n').entries()) {
    const where = `line ${index + 1}: ${line.trim()}`;
    if (!top && PROCESS_USE.test(line)) report('process', `${where}; process belongs to app and cli`);
    if (!top && /(?<![\w.$])console\s*\./.test(line))
      report('console', `${where}; log through the Log of core`);
    if (/(?<![\w.$])export\s+default\b/.test(line)) report('default export', where);
    if (file !== 'src/index.ts' && /(?<![\w.$])export\s+(?:type\s+)?\*/.test(line)) report('barrel', where);
    if (/(?<![\w.$])(?:enum\s+\w+\s*\{|namespace\s+\w+)/.test(line)) report('not erasable', where);
  }
}

function checkName(file: string, report: Report): void {
  const name = posix.basename(file).replace(/\.[a-z]+$/, '');
  const parts = file.split('/');
  const isIndex = posix.basename(file) === 'index.ts';
  const mayBeIndex =
    parts.length === 2 || (parts.length === 4 && (parts[1] === 'engines' || parts[1] === 'proxies'));
  if (isIndex && !mayBeIndex) report('barrel', 'index.ts may stand in src, in an engine and in a proxy');
  if (!/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z]+)?$/.test(name))
    report('file name', 'files are named in kebab-case');
  if (BANNED_NAMES.test(name)) report('file name', 'the name says nothing about what is in it');
  if (parts[0] === 'src' && parts.length > 2 && MAY_IMPORT[parts[1] ?? ''] === undefined) {
    report('folder', `src/${parts[1] ?? ''} has no place in the import rule`);
  }
}

function checkEngineWords(file: string, text: string, report: Report): void {
  if (file === REGISTRY) return;
  const place = placeOf(file);
  const split = file.endsWith('.ts') ? splitSource(text) : undefined;
  // Core may give a server's behaviour as the example that explains an interface; its code may not.
  const looked = place.layer === 'core' && split !== undefined ? split.withoutComments : text;
  for (const [engine, words] of Object.entries(ENGINE_WORDS)) {
    if (place.layer === 'engines' && place.part === engine) continue;
    for (const [index, line] of looked.split('\n').entries()) {
      const said = place.layer === 'proxies' ? withoutDriver(line) : line;
      if (words.test(said)) report('engine word', `line ${index + 1}: ${line.trim()}`);
    }
  }
}

/** A proxy that speaks a database's protocol imports the driver and takes its kind of address; it says no more about the engine. */
function withoutDriver(line: string): string {
  const names = Object.keys(DRIVER_OWNERS).join('|');
  return line
    .replaceAll(new RegExp(`from ['"](?:${names})(?:/[^'"]*)?['"]`, 'g'), '')
    .replaceAll(/(?:postgres(?:ql)?|postgres\(ql\)\?|mysql|mongodb):(?:\\?\/){2}/g, '');
}

function placeOf(file: string): { layer: string; part: string | undefined } {
  const [, layer = '', part] = file.split('/');
  return { layer, part: layer === 'engines' || layer === 'proxies' ? part : undefined };
}
