/** Names from the outside in: `['address', 'city']`. Arrays are values, never on the way. */
export type DocumentPath = readonly string[];

/** A document, in its engine's form. */
export type DocumentCell = object;

/** A value inside a document, in its engine's form. Only to be handed back to the format it came from. */
export type DocumentValue = object;

/**
 * What a format cannot read, make or place. Thrown, and no Error: bad documents may come by the million. The reason must not
 * hold the value.
 */
export class DocumentMisfit {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Kinds (of {@link import('./table.ts').Kind}) that values with a text have. */
export type DocumentTextKind = 'integer' | 'decimal' | 'float' | 'boolean' | 'text' | 'timestamptz';

/** A value that is put into a document. */
export interface DocumentPut {
  readonly path: DocumentPath;
  /** A field of the same parent whose place it takes, where it has none of its own; null: it goes to the end of its parent. */
  readonly beside: DocumentPath | null;
}

export interface DocumentEdit {
  /** Everything else is taken over, untouched and in its place. False: the document is made of what is put. */
  readonly keep: boolean;
  /** What is not taken over; a document that this leaves without fields goes too. */
  readonly without: readonly DocumentPath[];
  /** In this order where places do not say otherwise. Parents that are not there are made. */
  readonly put: readonly DocumentPut[];
}

/** How the mapping looks into values of kind `document`, whose form only their engine knows. Pure; answers at once. */
export interface DocumentFormat {
  /** Words (lower case) for the types of values that have a text, and the kind of that text. */
  readonly types: Readonly<Record<string, DocumentTextKind>>;
  /**
   * Reads what stands at the paths; null: nothing does.
   * @throws DocumentMisfit for an array on the way, or a name that is there twice
   */
  reader(paths: readonly DocumentPath[]): (document: DocumentCell) => readonly (DocumentValue | null)[];
  /** The value as text; null where it is null. @throws DocumentMisfit for values without one (documents, arrays, bytes) */
  text(value: DocumentValue): string | null;
  /** A value of a type (of `types`). @throws DocumentMisfit where it does not fit */
  value(type: string, text: string | null): DocumentValue;
  isOf(value: DocumentValue, type: string): boolean;
  /** The cell of the key column of such a document. @throws DocumentMisfit where it has no key, or one that no server takes */
  key(document: DocumentCell): string;
  /**
   * A changed copy of a document. Of `values`, in the order of `put`, null is left out.
   * @throws DocumentMisfit where a value would have to go into something that is no document
   */
  editor(
    edit: DocumentEdit,
  ): (document: DocumentCell, values: readonly (DocumentValue | null)[]) => DocumentCell;
  /** The elements of an array, in order; null counts as an empty one. Null: it is none. */
  elements(value: DocumentValue): readonly DocumentValue[] | null;
  /** One text for documents that differ in the order of their fields alone. For comparison only. */
  unordered(document: DocumentCell): string;
}
