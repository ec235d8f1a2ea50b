import {
  DocumentMisfit,
  type DocumentCell,
  type DocumentFormat,
  type DocumentValue,
} from '../core/document.ts';
import { isDelta, showTable, type Cell, type Column, type Relation } from '../core/table.ts';
import { fitting } from './bad-value.ts';
import { compileColumn, type ColumnProgram } from './column.ts';
import { compileDocument, partOfDocument, type DocumentProgram } from './document.ts';
import { compileDocumentCondition } from './document-condition.ts';
import { covers, parsePath, samePath } from './document-path.ts';
import type { Problem } from './scope.ts';
import type { TargetSpec } from './spec.ts';
import type { DraftOptions, TargetDraft } from './target-draft.ts';
import type { ExplodeProgram } from './target-program.ts';

type ExplodeSpec = NonNullable<TargetSpec['explode']>;

/** Under which name the parent's key stands in a child's, where the mapping does not say. */
const PARENT = 'p';

/** One element on its way to a document of its own. */
interface Element {
  /** What its fields are made of: the named fields of the parent, and the element under its name. */
  readonly source: DocumentCell;
  readonly parent: DocumentValue;
  readonly number: DocumentValue;
}

/** Compiles one `to` entry that makes a document of each element of an array. Null after reporting why not. */
export function draftChildren(
  { blue, green, target, modules, issues }: DraftOptions,
  column: { readonly index: number; readonly format: DocumentFormat },
): TargetDraft | null {
  const spec = target.spec as TargetSpec & { readonly explode: ExplodeSpec };
  const { format, index } = column;
  const key = (blue.columns[blue.key[0] as number] as Column).name;
  let failed = false;
  const complain: Problem = (path, message) => {
    failed = true;
    issues.add([...target.path, ...path], message);
  };
  const array = parsePath(spec.explode.array);
  if (typeof array === 'string') complain(['explode', 'array'], `${spec.explode.array} ${array}`);
  const names = { parent: parentName(spec, key, complain), ordinal: ordinalName(spec, key, complain) };
  if (names.parent === names.ordinal)
    complain(['explode', 'ordinal'], `${key}.${names.parent} is the parent's part of the key`);
  for (const [name] of Object.entries(spec.columns ?? {}))
    if (name === '*' || name === key || name.startsWith(`${key}.`))
      complain(
        ['columns', name],
        name === '*' ? 'name the fields of the children' : `${key} is made of the parent's and the number`,
      );
  if (spec.drop !== undefined) complain(['drop'], 'nothing is taken over that is not named');
  const program = compileDocument({
    format,
    key,
    columns: spec.columns ?? {},
    drop: [],
    side: 'blue',
    modules,
    problem: complain,
  });
  const emitWhen =
    spec.emit_when === undefined
      ? null
      : compileDocumentCondition(spec.emit_when, column, (message) => complain(['emit_when'], message));
  if (failed || program === null || typeof array === 'string') return null;
  const relation = green.columns.find(({ kind }) => kind === 'document')?.children?.(green, names);
  if (relation === undefined) {
    complain(['explode'], `${showTable(green.table)} cannot hold the elements of arrays`);
    return null;
  }
  const explode: ExplodeProgram = {
    array: index,
    name: spec.explode.array,
    ordinal: relation.key[1] as number,
    policy: spec.explode.on_error ?? 'fail',
    elements: elementsOf({ format, key, array, as: spec.explode.as, program }),
  };
  const parent = compileColumn(
    { from: key },
    { index: relation.key[0] as number, column: relation.columns[relation.key[0] as number] as Column },
    { columns: blue.columns, element: -1, modules },
    complain,
  ) as ColumnProgram;
  const child = childProgram({ blue, relation, format, names, key, program });
  return {
    blue,
    green: relation,
    spec,
    path: target.path,
    programs: [parent, child],
    emitWhen,
    explode,
    defaults: [],
    withAbsent: [],
  };
}

function ordinalName({ explode }: { explode: ExplodeSpec }, key: string, complain: Problem): string {
  const path = parsePath(explode.ordinal);
  if (typeof path !== 'string' && path.length === 2 && path[0] === key) return path[1] as string;
  complain(['explode', 'ordinal'], `the number is a part of the key: write ${key}.n`);
  return 'n';
}

function parentName({ key: parts }: TargetSpec, key: string, complain: Problem): string {
  const entries = Object.entries(parts ?? {});
  const [[name, part] = [`${key}.${PARENT}`, key], more] = entries;
  const path = parsePath(name);
  const from = typeof part === 'string' ? part : 'from' in part ? part.from : null;
  if (more === undefined && from === key && typeof path !== 'string' && path.length === 2 && path[0] === key)
    return path[1] as string;
  complain(
    ['key'],
    `the parent's part of the key is ${key} of blue: write key: { ${key}.${PARENT}: ${key} }`,
  );
  return PARENT;
}

function elementsOf({
  format,
  key,
  array,
  as,
  program,
}: {
  readonly format: DocumentFormat;
  readonly key: string;
  readonly array: readonly string[];
  readonly as: string;
  readonly program: DocumentProgram;
}): (document: Cell) => readonly Cell[] {
  const used = program.fields.flatMap((field) => field.sources.map(({ path }) => path));
  const outer = used.filter(
    (path, at) =>
      path[0] !== as &&
      path[0] !== key &&
      !used.some((other, index) => (samePath(other, path) ? index < at : covers(other, path))),
  );
  const read = format.reader([array, [key], ...outer]);
  const edit = format.editor({
    keep: false,
    without: [],
    put: [[key], ...outer, [as]].map((path) => ({ path, beside: null })),
  });
  return (cell) => {
    if (isDelta(cell)) throw partOfDocument();
    return fitting(() => {
      const [found = null, parent = null, ...values] = read(cell as DocumentCell);
      const elements = found === null ? [] : format.elements(found);
      if (elements === null) throw new DocumentMisfit('is not an array');
      return elements.map((element, at): Element => ({
        source: edit(cell as DocumentCell, [parent, ...values, element]),
        parent: parent as DocumentValue,
        number: format.value('int', String(at + 1)),
      }));
    });
  };
}

function childProgram(of: {
  readonly blue: Relation;
  readonly relation: Relation;
  readonly format: DocumentFormat;
  readonly names: { readonly parent: string; readonly ordinal: string };
  readonly key: string;
  readonly program: DocumentProgram;
}): ColumnProgram {
  const { blue, relation, format, names, key, program } = of;
  const column = relation.columns.findIndex(({ kind }) => kind === 'document');
  const element = blue.columns.length;
  const reason = `${showTable(relation.table)} holds one document per element`;
  const withKey = format.editor({
    keep: true,
    without: [[key]],
    put: [names.parent, names.ordinal].map((name) => ({ path: [key, name], beside: null })),
  });
  return {
    column,
    name: (relation.columns[column] as Column).name,
    inputs: [blue.columns.findIndex(({ kind }) => kind === 'document'), element],
    copy: null,
    constant: null,
    evaluate: (tuple) => {
      const { source, parent, number } = tuple[element] as Element;
      const made = program.apply(source) as DocumentCell;
      return fitting(() => withKey(made, [parent, number]));
    },
    policy: 'fail',
    operation: program.operation,
    inverse: { reason },
    element: null,
    nullable: false,
    splitPart: null,
    pure: program.pure,
    absent: null,
    document: { gives: -1, reads: column, back: reason, backOperation: '', unordered: null, again: null },
  };
}
