import type { Relation } from '../../core/table.ts';

/**
 * Types of the server itself, as format_type prints them, whose binary form is the same in every version since 14 and holds the value exactly.
 * Whatever is not here (types of extensions, domains, enums, arrays, whose form names oids) goes as text.
 */
const SAME_FORM =
  /^(smallint|integer|bigint|real|double precision|boolean|text|bytea|uuid|date|json|jsonb|numeric(\(.*\))?|character varying(\(\d+\))?|timestamp(\(\d\))? with(out)? time zone)$/;

/** Whether columns that have the same types on both sides can be copied in the binary form: half of the server's work for numbers and times. */
export const binaryAlike = (relation: Relation, columns: readonly number[]): boolean =>
  columns.every((column) => SAME_FORM.test(relation.columns[column]?.type ?? ''));
