import type { Column } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import { convert } from './operations/convert.ts';
import { derived, scalarText, type Shape } from './operations/operation.ts';
import type { Scalar } from './spec.ts';

/** A scalar of the configuration as a cell of the column, checked now. */
export function constantFor(
  value: Scalar,
  column: Column,
  problem: (message: string) => void,
): { cell: string | null } | null {
  const text = scalarText(value, column.kind);
  if (text === null) {
    if (column.nullable) return { cell: null };
    problem(`${column.name} cannot be null`);
    return null;
  }
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    problem('has more digits than a YAML number keeps: write it in quotes');
    return null;
  }
  const input: Shape =
    typeof value === 'boolean' && column.kind === 'boolean'
      ? derived('boolean', false)
      : derived('text', false);
  const conversion = convert(input, column, null);
  if (typeof conversion === 'string') {
    problem(`a constant cannot be written for ${column.type}`);
    return null;
  }
  try {
    return { cell: conversion.apply(text) };
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    problem(`${error.reason}, and ${column.name} is ${column.type}`);
    return null;
  }
}
