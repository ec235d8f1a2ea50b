import type { DocumentFormat } from '../core/document.ts';
import type { Cell, Column, Relation } from '../core/table.ts';
import { fitting } from './bad-value.ts';
import { compileColumn, type ColumnProgram } from './column.ts';
import { compileDocument, type DocumentProgram } from './document.ts';
import { documentBack, partBack } from './document-back.ts';
import { bytesText, type DocumentPart } from './document-column.ts';
import { fieldsAlone } from './document-fields.ts';
import { compileDocumentCondition } from './document-condition.ts';
import type { Issues } from './issue.ts';
import type { ColumnObject, TargetSpec } from './spec.ts';
import type { DraftOptions, TargetDraft } from './target-draft.ts';

/** The column that holds the document, where the mapping can look into it. */
export function documentColumn(
  relation: Relation,
): { readonly index: number; readonly format: DocumentFormat } | null {
  const index = relation.columns.findIndex((column) => column.kind === 'document');
  const format = relation.columns[index]?.format;
  return format === undefined ? null : { index, format };
}

/** Names of `columns`, `drop` and `emit_when` are fields of the documents. */
export const mapsFields = (spec: TargetSpec | null): spec is TargetSpec =>
  spec !== null &&
  (spec.columns !== undefined ||
    spec.drop !== undefined ||
    spec.key !== undefined ||
    spec.explode !== undefined ||
    spec.emit_when !== undefined);

/** Compiles one `to` entry of a table of documents: its key stays, its document is made of blue's. */
export function draftDocuments({ blue, green, target, modules, issues, entry }: DraftOptions): TargetDraft {
  const spec = target.spec as TargetSpec;
  const from = documentColumn(blue);
  const to = documentColumn(green);
  const [key = 0] = green.key;
  const keyName = (green.columns[key] as Column).name;
  const named = Object.keys(spec.columns ?? {}).some((name) => name !== '*') || (spec.drop ?? []).length > 0;
  const complain = (path: readonly string[], message: string): void =>
    issues.add([...target.path, ...path], message);
  const programs: ColumnProgram[] = [];
  for (const [index, column] of green.columns.entries()) {
    const program = compileColumn(
      {},
      { index, column },
      { columns: blue.columns, element: -1, modules },
      complain,
    );
    if (program !== null) programs.push(program);
  }
  const columns = withKey(spec, keyName, complain);
  if (from !== null && to !== null && (named || columns !== spec.columns)) {
    const options = { format: from.format, key: keyName, modules };
    const program = compileDocument({
      ...options,
      columns: columns ?? { '*': 'copy' },
      drop: spec.drop ?? [],
      side: 'blue',
      problem: complain,
    });
    const back =
      program === null
        ? { reason: '' }
        : documentBack(program, entry.reverse?.columns, {
            ...options,
            problem: (path, message) => issues.add([...entry.path, 'reverse', ...path], message),
          });
    const at = programs.findIndex((one) => one.column === to.index);
    if (program !== null && at >= 0) {
      const made = remembered(program.apply);
      const documents = { program, back, made, format: to.format, column: to.index };
      const whole = programs[at] as ColumnProgram;
      const keys = programs.findIndex((one) => one.column === key);
      programs[at] = withFields(
        whole,
        documents,
        program.keep ? null : partOf(program, entry, options, issues),
      );
      if (program.rekeyed && keys >= 0)
        programs[keys] = withOwnKey(programs[keys] as ColumnProgram, documents, whole.inputs);
    }
  }
  return {
    blue,
    green,
    spec,
    path: target.path,
    programs,
    emitWhen:
      spec.emit_when === undefined || from === null
        ? null
        : compileDocumentCondition(spec.emit_when, from, (message) => complain(['emit_when'], message)),
    explode: null,
    defaults: [],
    withAbsent: [],
  };
}

/** What `key` says is said of the key's field, as if it stood among the columns. */
function withKey(
  { key, columns }: TargetSpec,
  keyName: string,
  complain: (path: readonly string[], message: string) => void,
): TargetSpec['columns'] {
  let all = columns;
  for (const [name, part] of Object.entries(key ?? {})) {
    const spec: ColumnObject = typeof part === 'string' ? { from: part } : part;
    const written = columns?.[name];
    if (name !== keyName) complain(['key', name], `the key of a collection is ${keyName}`);
    else if (spec.from === undefined) complain(['key', name], 'a key is made of what the document has');
    else if (written === undefined)
      all = spec.from === keyName ? all : { '*': 'copy', ...columns, [name]: spec };
    else if (typeof written === 'string' || (written.from ?? name) !== spec.from)
      complain(['key', name], `columns makes ${name} from something else`);
  }
  return all;
}

interface Documents {
  readonly program: DocumentProgram;
  readonly back: ReturnType<typeof documentBack>;
  /** The document made of one of blue. */
  readonly made: (document: Cell) => Cell;
  readonly format: DocumentFormat;
  /** Green's column of documents. */
  readonly column: number;
}

/** The key and the document are both made of the same one, one after the other. */
function remembered(apply: (document: Cell) => Cell): (document: Cell) => Cell {
  let last: Cell = null;
  let made: Cell = null;
  return (document) => {
    if (document === last && last !== null) return made;
    made = apply(document);
    last = document;
    return made;
  };
}

function withFields(
  whole: ColumnProgram,
  { program, back, made, format, column }: Documents,
  part: DocumentPart | string | null,
): ColumnProgram {
  const none = 'reason' in back ? back.reason : null;
  const ordered = program.ordered && 'program' in back && back.program.ordered;
  const from = whole.inputs[0] as number;
  const unordered = ordered ? null : (document: Cell) => format.unordered(document as object);
  return {
    ...whole,
    copy: null,
    evaluate: (tuple) => made(tuple[from] as Cell),
    operation: program.operation,
    inverse: none === null ? { apply: (text) => text } : { reason: none },
    pure: program.pure,
    document: {
      gives: from,
      reads: column,
      back: 'program' in back ? back.program.apply : (none as string),
      backOperation: 'program' in back ? back.program.operation : '',
      unordered,
      again: unordered ?? bytesText,
      ...(part === null ? {} : { part }),
    },
  };
}

/** The key that the mapping makes: what stands in the made document. */
function withOwnKey(
  { inputs: [own = 0], ...kept }: ColumnProgram,
  { program, back, made, format, column }: Documents,
  [document = 0]: readonly number[],
): ColumnProgram {
  const none = 'reason' in back ? back.reason : null;
  const keyOf = (cell: Cell): Cell => fitting(() => format.key(cell as object));
  const field = program.fields.find(({ path }) => path.join('.') === kept.name);
  const ofKey = field?.sources.every(({ path }) => path[0] === kept.name) === true;
  return {
    ...kept,
    // Of blue's own key it says that two rows never meet in one.
    inputs: ofKey ? [own, document] : [document],
    copy: null,
    evaluate: (tuple) => keyOf(made(tuple[document] as Cell)),
    policy: field?.policy ?? 'fail',
    operation: `made: ${field?.operation ?? ''}`,
    inverse: none === null ? { apply: (text) => text } : { reason: none },
    document: {
      gives: own,
      reads: column,
      back: 'program' in back ? (cell) => keyOf(back.program.apply(cell)) : (none as string),
      backOperation: `made: ${field?.operation ?? ''}`,
      unordered: null,
      again: null,
    },
  };
}

/** The way back where the document is a part of green's. */
function partOf(
  program: DocumentProgram,
  entry: DraftOptions['entry'],
  options: Omit<Parameters<typeof partBack>[2], 'problem'>,
  issues: Issues,
): DocumentPart | string {
  const back = partBack(program, entry.reverse?.columns, {
    ...options,
    problem: (path, message) => issues.add([...entry.path, 'reverse', ...path], message),
  });
  if ('reason' in back) return back.reason;
  const { fields, apply, operation } = back.program;
  const names = fields.map(({ path }) => path[0] as string);
  const ordered = program.fields.every(({ path }) => path.length === 1);
  return { fields: names, back: fieldsAlone(options.format, names, apply), operation, ordered };
}
