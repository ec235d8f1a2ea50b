import {
  DocumentMisfit,
  type DocumentCell,
  type DocumentFormat,
  type DocumentPath,
  type DocumentValue,
} from '../core/document.ts';
import { VerdigrisError } from '../core/errors.ts';
import { isDelta, type Cell, type Column } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { hint } from './closest.ts';
import { compileColumn, replacementOf, type ColumnProgram } from './column.ts';
import { covers, parsePath, samePath, siblings } from './document-path.ts';
import { isCast, isMove, sourcesOf, typeOf } from './document-spec.ts';
import type { Problem } from './scope.ts';
import type { ColumnObject, ColumnSpec, ModuleFunction } from './spec.ts';

export interface DocumentOptions {
  readonly format: DocumentFormat;
  /** Field that holds the key. */
  readonly key: string;
  readonly columns: Readonly<Record<string, ColumnSpec>>;
  readonly drop: readonly string[];
  /** Whose documents are read. */
  readonly side: 'blue' | 'green';
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  /** At a path below the target's entry. */
  readonly problem: Problem;
}

/** One field that is put into the document. */
export interface DocumentField {
  readonly name: string;
  readonly path: DocumentPath;
  /** Fields of the document that it is made of. */
  readonly sources: readonly Source[];
  /** The value is passed on as the bytes that came. */
  readonly moved: boolean;
  readonly operation: string;
  readonly policy: 'fail' | 'reject';
}

/** A document made of a document. */
export interface DocumentProgram {
  readonly fields: readonly DocumentField[];
  readonly drop: readonly Source[];
  /** Everything that is not named is taken over. */
  readonly keep: boolean;
  /** Fields keep their places, so that the way back gives the same order. */
  readonly ordered: boolean;
  /** The field that holds the key is made of others, or another value than it was. */
  readonly rekeyed: boolean;
  readonly pure: boolean;
  readonly operation: string;
  /** @throws BadValue; VerdigrisError SCHEMA_UNSUPPORTED when the log brought a part of the document */
  readonly apply: (document: Cell) => Cell;
}

interface Source {
  readonly name: string;
  readonly path: DocumentPath;
}

/** How the value of one field is made; null: it is not there. Throws BadValue or DocumentMisfit. */
type Make = (document: DocumentCell) => DocumentValue | null;

interface Compiled extends DocumentField {
  readonly make: Make;
  /** What a value becomes that does not fit; null: it is refused. */
  readonly replacement: { readonly value: DocumentValue | null } | null;
  readonly pure: boolean;
}

/** Compiles what a mapping says of fields of documents; null after reporting why not. */
export function compileDocument(options: DocumentOptions): DocumentProgram | null {
  return new Compiler(options).compile();
}

class Compiler {
  readonly #o: DocumentOptions;
  #failed = false;

  constructor(options: DocumentOptions) {
    this.#o = options;
  }

  compile(): DocumentProgram | null {
    const { columns, key } = this.#o;
    const named = Object.entries(columns).filter(([name]) => name !== '*');
    if (columns['*'] !== undefined && columns['*'] !== 'copy')
      this.#problem(['columns', '*'], 'only copy can stand for every other field');
    const keep = columns['*'] !== undefined;
    const entries = named.flatMap(([name, spec]) => this.#entry(name, spec) ?? []);
    const drop = this.#o.drop.flatMap((name, index) => {
      const path = this.#path(name, ['drop', String(index)]);
      if (path === null) return [];
      if (path[0] === key && (path.length > 1 || !isRekeyed(entries, key)))
        this.#problem(['drop', String(index)], `${key} stays what it is, unless columns makes another`);
      return [{ name, path }];
    });
    if (drop.length > 0 && !keep)
      this.#problem(['drop'], 'without "*": copy nothing is taken over that is not named');
    this.#overlaps(entries);
    this.#keyKept(entries, drop, keep);
    if (this.#failed) return null;
    const fields = entries.flatMap((entry) => this.#field(entry) ?? []);
    return this.#failed ? null : this.#program(fields, drop, { keep, rekeyed: isRekeyed(entries, key) });
  }

  #program(
    all: readonly Compiled[],
    drop: readonly Source[],
    { keep, rekeyed }: { readonly keep: boolean; readonly rekeyed: boolean },
  ): DocumentProgram {
    const { format, key } = this.#o;
    const fields = rekeyed ? all : all.filter(({ path }) => path[0] !== key);
    const taken = all
      .flatMap(({ sources }) => sources.map(({ path }) => path))
      .filter(([top]) => top !== key);
    const gone = [...taken, ...drop.map(({ path }) => path)];
    // A field that is there already, and that nobody reads, would be lost in silence.
    const isRead = ({ path }: Compiled): boolean =>
      gone.some((one) => covers(one, path) || (this.#o.side === 'green' && covers(path, one)));
    const unread = keep ? fields.filter((field) => field.path[0] !== key && !isRead(field)) : [];
    const unreadValues = format.reader(unread.map(({ path }) => path));
    const put = keep || rekeyed ? fields : [keyField(format, key), ...fields];
    const edit = format.editor({
      keep,
      without: keep ? [...fields.map(({ path }) => path), ...gone] : [],
      put: put.map((field) => ({ path: field.path, beside: placeOf(field) })),
    });
    return {
      fields,
      drop,
      keep,
      ordered: keep && !rekeyed && drop.length === 0 && fields.every((field) => placeOf(field) !== null),
      rekeyed,
      pure: fields.every((field) => field.pure),
      operation: [
        ...fields.map((field) => field.operation),
        ...drop.map(({ name }) => `drop ${name}`),
        ...(keep ? [] : ['nothing else']),
      ].join(', '),
      apply: (cell) => {
        if (isDelta(cell)) throw partOfDocument();
        const document = cell as DocumentCell;
        return guarded(null, this.#policy({}), () => {
          const lost = unreadValues(document).findIndex((value) => value !== null);
          if (lost >= 0)
            throw new DocumentMisfit(
              `has a value of its own at ${(unread[lost] as Compiled).name}; map it, or drop it`,
            );
          return edit(
            document,
            put.map((field) => valueOf(field, document)),
          );
        });
      },
    };
  }

  /** On the way back a row that does not fit never stops the stream. */
  #policy({ on_error: wanted }: ColumnObject): 'fail' | 'reject' {
    return wanted === 'reject' || this.#o.side === 'green' ? 'reject' : 'fail';
  }

  #problem(path: readonly string[], message: string): void {
    this.#failed = true;
    this.#o.problem(path, message);
  }

  #path(name: string, at: readonly string[]): DocumentPath | null {
    const path = parsePath(name);
    if (typeof path !== 'string') return path;
    this.#problem(at, `${name} ${path}`);
    return null;
  }

  #entry(name: string, spec: ColumnSpec): Entry | null {
    const at = ['columns', name];
    const path = this.#path(name, at);
    if (path === null) return null;
    if (spec === 'default') {
      this.#problem(at, 'a field of a document has no default of the server');
      return null;
    }
    const object = spec === 'copy' ? {} : spec;
    const names = sourcesOf(name, object);
    if (path[0] === this.#o.key && path.length > 1) {
      this.#problem(at, `${this.#o.key} is made as a whole: by it a document is found`);
      return null;
    }
    if (object.module !== undefined && names.length === 0)
      this.#problem(at, 'a function reads named fields: write from, or of');
    const sources = names.flatMap((one) => {
      const source = this.#path(one, [...at, 'from']);
      return source === null ? [] : [{ name: one, path: source }];
    });
    return { name, path, spec: object, sources };
  }

  /** Blue's key would be gone in silence. */
  #keyKept(entries: readonly Entry[], drop: readonly Source[], keep: boolean): void {
    const { key, side } = this.#o;
    if (!isRekeyed(entries, key)) return;
    const own = entries.find(({ path }) => path[0] === key);
    if (own?.sources.length === 0) this.#problem(['columns', key], 'a key is made of what the document has');
    if (own?.spec.pure === false)
      this.#problem(['columns', key], 'a key must always be the same for the same document');
    if (side === 'green' || !keep) return;
    const isKey = ({ path }: Source): boolean => samePath(path, [key]);
    if (drop.some(isKey) || entries.some(({ sources }) => sources.some(isKey))) return;
    this.#problem(
      ['columns', key],
      `nothing takes over what ${key} is on blue; map it, or write drop: [${key}]`,
    );
  }

  #overlaps(entries: readonly Entry[]): void {
    for (const { name, path, sources } of entries) {
      for (const other of entries) {
        if (other.name !== name && covers(path, other.path))
          this.#problem(['columns', name], `${other.name} is inside ${name}: name only one of them`);
      }
      // On the way back what is made is mapped once more, which finds such a rest.
      if (
        this.#o.side === 'blue' &&
        sources.some((source) => source.path.length > path.length && covers(path, source.path))
      )
        this.#problem(
          ['columns', name],
          `${name} cannot be made of what is inside it: the rest of it would be lost`,
        );
    }
  }

  #field({ name, path, spec, sources }: Entry): Compiled | null {
    const { format } = this.#o;
    const base = { name, path, sources };
    const read = format.reader(sources.map((source) => source.path));
    if (isMove(spec)) {
      const from = sources[0]?.name ?? '';
      return {
        ...base,
        moved: true,
        operation: from === name ? `copy ${name}` : `${from} → ${name}`,
        make: (document) => read(document)[0] ?? null,
        replacement: null,
        policy: this.#policy(spec),
        pure: true,
      };
    }
    const word = typeOf(spec).toLowerCase();
    const kind = format.types[word];
    if (kind === undefined) {
      const known = Object.keys(format.types);
      this.#problem(
        ['columns', name, 'cast'],
        `${word} is no type of a field; there are ${known.join(', ')}${hint(word, known)}`,
      );
      return null;
    }
    const column = pathColumn(name, kind, word);
    const complain: Problem = (below, message) => this.#problem(['columns', name, ...below], message);
    const columns = sources.map((source) => pathColumn(source.name, 'text', 'value'));
    const scope = { columns, element: -1, side: this.#o.side, modules: this.#o.modules };
    const program = compileColumn(spec, { index: 0, column }, scope, complain);
    if (program === null) {
      this.#failed = true;
      return null;
    }
    const onError = replacementOf(spec, column, complain);
    return {
      ...base,
      moved: false,
      operation: `${name}: ${program.operation}`,
      make: maker(program, { format, word, read, castOnly: isCast(spec) }),
      replacement: onError === null ? null : { value: format.value(word, onError.cell as string | null) },
      policy: this.#policy(spec),
      pure: program.pure,
    };
  }
}

interface Entry extends Source {
  readonly spec: ColumnObject;
  readonly sources: readonly Source[];
}

/** Some entry makes the key anew; `_id: copy` does not. */
const isRekeyed = (entries: readonly Entry[], key: string): boolean =>
  entries.some(
    ({ path, spec, sources }) =>
      path[0] === key && !(isMove(spec) && sources.every((source) => samePath(source.path, [key]))),
  );

function keyField(format: DocumentFormat, key: string): Compiled {
  const read = format.reader([[key]]);
  return {
    name: key,
    path: [key],
    sources: [],
    moved: true,
    operation: '',
    make: (document) => read(document)[0] ?? null,
    replacement: null,
    policy: 'fail',
    pure: true,
  };
}

/** The field whose place it takes. */
function placeOf({ path, sources }: DocumentField): DocumentPath | null {
  const [only, more] = sources;
  return only !== undefined && more === undefined && siblings(only.path, path) ? only.path : null;
}

const pathColumn = (name: string, kind: Column['kind'], type: string): Column => ({
  name,
  type,
  kind,
  nullable: true,
  generated: false,
  hasDefault: false,
  exact: true,
  mayBeUnchanged: false,
});

function maker(
  program: ColumnProgram,
  at: {
    readonly format: DocumentFormat;
    readonly word: string;
    readonly read: (document: DocumentCell) => readonly (DocumentValue | null)[];
    readonly castOnly: boolean;
  },
): Make {
  const { format, word, read, castOnly } = at;
  return (document) => {
    const values = read(document);
    const [own = null] = values;
    if (castOnly && own !== null && format.isOf(own, word)) return own;
    const cell = program.evaluate(values.map((value) => (value === null ? null : format.text(value))));
    const there = values.length === 0 || values.some((value) => value !== null);
    return cell === null && !there ? null : format.value(word, cell as string | null);
  };
}

/** @throws BadValue with the field's own policy */
function valueOf(field: Compiled, document: DocumentCell): DocumentValue | null {
  try {
    return guarded(field.name, field.policy, () => field.make(document));
  } catch (error) {
    if (error instanceof BadValue && field.replacement !== null) return field.replacement.value;
    throw error;
  }
}

function guarded<T>(name: string | null, policy: 'fail' | 'reject', work: () => T): T {
  const told = name === null ? '' : `${name} `;
  try {
    return work();
  } catch (error) {
    if (error instanceof DocumentMisfit) throw new BadValue(`${told}${error.reason}`, policy);
    if (error instanceof BadValue && name !== null)
      throw new BadValue(`${told}${error.reason}`, error.policy ?? policy);
    throw error;
  }
}

/** Where whole documents are needed and the log does not bring them. */
export const partOfDocument = (): VerdigrisError =>
  new VerdigrisError(
    'SCHEMA_UNSUPPORTED',
    'The log brought a part of a document, and the mapping looks into documents as a whole.',
    {
      remedy: 'Make the log of the table bring whole documents (plan says how), then copy it again.',
    },
  );
