import type { DocumentCell, DocumentFormat, DocumentValue } from '../core/document.ts';
import { isDelta, type Cell } from '../core/table.ts';
import { fitting } from './bad-value.ts';
import { partOfDocument } from './document.ts';

/**
 * Some top-level fields of a document as a document of their own; null where it has none of them.
 * @param made what becomes of a document first
 * @throws BadValue, and VerdigrisError SCHEMA_UNSUPPORTED where the log brought a part of the document, when the answer is called
 */
export function fieldsAlone(
  format: DocumentFormat,
  names: readonly string[],
  made: (document: Cell) => Cell = (document) => document,
): (document: Cell) => Cell {
  const paths = names.map((name) => [name]);
  const read = format.reader(paths);
  const edit = format.editor({
    keep: false,
    without: [],
    put: paths.map((path) => ({ path, beside: null })),
  });
  return (document) => {
    const whole = wholeOf(made(document));
    return fitting(() => {
      const values: readonly (DocumentValue | null)[] = read(whole);
      return values.every((value) => value === null) ? null : edit(whole, values);
    });
  };
}

/** A document without some of its top-level fields. The answer throws as {@link fieldsAlone}'s. */
export function withoutFields(format: DocumentFormat, names: readonly string[]): (document: Cell) => Cell {
  const edit = format.editor({ keep: true, without: names.map((name) => [name]), put: [] });
  return (document) => fitting(() => edit(wholeOf(document), []));
}

/** @throws VerdigrisError SCHEMA_UNSUPPORTED */
function wholeOf(cell: Cell): DocumentCell {
  if (isDelta(cell)) throw partOfDocument();
  return cell as DocumentCell;
}
