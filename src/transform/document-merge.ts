import type { DocumentCell, DocumentFormat } from '../core/document.ts';
import { isDelta, showTable, tableId, type Cell, type Column } from '../core/table.ts';
import { BadValue, fitting } from './bad-value.ts';
import type { ColumnProgram } from './column.ts';
import { partOfDocument } from './document.ts';
import { bytesText } from './document-column.ts';
import { documentColumn } from './document-draft.ts';
import { fieldsAlone, withoutFields } from './document-fields.ts';
import { parsePath } from './document-path.ts';
import type { Issues } from './issue.ts';
import type { TargetDraft } from './target-draft.ts';

/**
 * Drafts of one green table of documents that several blue ones feed: each part becomes a column of its own, which holds the top-level fields that
 * are the part's, and the owner's document is the rest. From there on they are a merge as any other.
 */
export function mergeDocuments(drafts: readonly TargetDraft[], issues: Issues): readonly TargetDraft[] {
  const [first] = drafts;
  const green = first?.green;
  const owner = drafts.find(({ spec }) => spec?.owner === true);
  const at = green === undefined ? null : documentColumn(green);
  const merged = green?.columns[at?.index ?? -1]?.merged;
  // What is wrong with these is said where all merges are looked at.
  if (drafts.length < 2 || owner === undefined || at === null || green === undefined || merged === undefined)
    return drafts;
  if (drafts.some(({ explode, spec }) => explode !== null || spec?.explode !== undefined)) return drafts;
  const before = issues.count;
  const parts = drafts.filter((draft) => draft !== owner);
  const key = (green.columns[green.key[0] as number] as Column).name;
  const names = parts.map((part) => fieldsOf(part, key, issues));
  for (const draft of drafts) checkKey(draft, key, issues);
  checkApart(
    [owner, ...parts],
    [namedFields(owner).filter((name) => name !== key && name !== '*'), ...names],
    issues,
  );
  if (issues.count > before) return [];
  const relation = merged(green, names);
  const build = { relation, key: green.key[0] as number, format: at.format };
  return drafts.map((draft): TargetDraft => {
    const part = parts.indexOf(draft);
    const whole = draft.programs.find(({ column }) => column === at.index) as ColumnProgram;
    const column = part < 0 ? at.index : green.columns.length + part;
    const program = {
      ...whole,
      ...{ column, name: (relation.columns[column] as Column).name, copy: null },
      ...(part < 0
        ? ownerOf(whole, build.format, names.flat())
        : partOf(whole, build.format, names[part] as readonly string[], at.index)),
      nullable: part >= 0,
    };
    const programs = draft.programs.map((one) => (one === whole ? program : one));
    return { ...draft, green: relation, programs, mergedDocuments: true };
  });
}

/** Drafts of every green table, with {@link mergeDocuments} where documents meet. */
export function mergeAll(drafts: readonly TargetDraft[], issues: Issues): Map<TargetDraft, TargetDraft> {
  const made = new Map<TargetDraft, TargetDraft>();
  for (const group of Map.groupBy(drafts, ({ green }) => tableId(green.table)).values()) {
    const merged = mergeDocuments(group, issues);
    group.forEach((draft, index) => {
      const now = merged[index];
      if (now !== undefined) made.set(draft, now);
    });
  }
  return made;
}

/** First names of the fields that columns name. */
const namedFields = ({ spec }: TargetDraft): string[] => [
  ...new Set(
    Object.keys(spec?.columns ?? {}).flatMap((name) => {
      if (name === '*') return [name];
      const path = parsePath(name);
      return typeof path === 'string' ? [] : [path[0] as string];
    }),
  ),
];

function fieldsOf(part: TargetDraft, key: string, issues: Issues): readonly string[] {
  const named = namedFields(part);
  const fields = named.filter((name) => name !== key && name !== '*');
  const name = showTable(part.green.table);
  if (named.includes('*') || part.spec?.columns === undefined)
    issues.add(
      [...part.path, 'columns'],
      `${showTable(part.blue.table)} is a part of ${name}: name the fields that it gives, without "*"`,
    );
  else if (fields.length === 0)
    issues.add(part.path, `${showTable(part.blue.table)} feeds nothing of ${name} but the key`);
  return fields;
}

/** The key of the document of green is made anew. */
function checkKey({ programs, path, green, blue }: TargetDraft, key: string, issues: Issues): void {
  const own = programs.find(({ column }) => column === green.key[0]);
  if (own === undefined || own.copy !== null) return;
  issues.add(
    [...path, 'columns', key],
    `documents of several tables meet in ${showTable(green.table)} by ${key}: it stays what it is in ${showTable(blue.table)}`,
  );
}

function checkApart(
  drafts: readonly TargetDraft[],
  names: readonly (readonly string[])[],
  issues: Issues,
): void {
  const givenBy = new Map<string, TargetDraft>();
  drafts.forEach((draft, index) => {
    for (const name of names[index] ?? []) {
      const other = givenBy.get(name);
      if (other === undefined) givenBy.set(name, draft);
      else
        issues.add(
          [...draft.path, 'columns', name],
          `${showTable(other.blue.table)} also makes ${name}: a field of ${showTable(draft.green.table)} belongs to one table, with all that is inside it`,
        );
    }
  });
}

type Made = Pick<ColumnProgram, 'evaluate' | 'inverse' | 'document'>;

/** The document of the owner is green's without the fields of the parts, there and back. */
function ownerOf(whole: ColumnProgram, format: DocumentFormat, fields: readonly string[]): Made {
  const read = format.reader(fields.map((name) => [name]));
  const own = withoutFields(format, fields);
  const { document } = whole;
  const back = document === undefined ? (made: Cell) => made : document.back;
  const text = document?.unordered ?? bytesText;
  return {
    evaluate: (tuple) => {
      const made = wholeOf(whole, tuple);
      const at = fitting(() => read(made)).findIndex((value) => value !== null);
      // One of the two would be lost.
      if (at >= 0)
        throw new BadValue(`has ${fields[at]}, which another table gives; write drop: [${fields[at]}]`);
      return made;
    },
    inverse: typeof back === 'string' ? { reason: back } : { apply: (value) => value },
    document: {
      gives: whole.inputs[0] as number,
      reads: whole.column,
      back: typeof back === 'string' ? back : (made) => back(own(made)),
      backOperation: [`without ${fields.join(', ')}`, document?.backOperation ?? '']
        .filter(Boolean)
        .join(', '),
      unordered: document?.unordered ?? null,
      again: (made) => text(own(made)),
      region: (made) => bytesText(own(made)),
    },
  };
}

/**
 * Fields of a part; null where it has none: on green it looks like a part that is not there.
 * @param reads green's column with the document that the part is in
 */
function partOf(
  whole: ColumnProgram,
  format: DocumentFormat,
  fields: readonly string[],
  reads: number,
): Made {
  const alone = fieldsAlone(format, fields);
  const reason = 'of the document only some fields are on green';
  const text = (document: Cell): string => (document === null ? '' : format.unordered(document as object));
  const { part = reason } = whole.document ?? {};
  return {
    evaluate: (tuple) => alone(wholeOf(whole, tuple)),
    inverse: { reason },
    document: {
      gives: whole.inputs[0] as number,
      reads,
      back: reason,
      backOperation: '',
      unordered: typeof part === 'string' || part.ordered ? null : text,
      again: (document) => (document === null ? '' : text(alone(document))),
      region: (document) => {
        const found = alone(document);
        return found === null ? '' : bytesText(found);
      },
      part,
    },
  };
}

function wholeOf(whole: ColumnProgram, tuple: readonly Cell[]): DocumentCell {
  const made = whole.copy === null ? whole.evaluate(tuple) : (tuple[whole.copy] as Cell);
  if (isDelta(made)) throw partOfDocument();
  return made as DocumentCell;
}
