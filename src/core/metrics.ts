/** Counters that the pipeline keeps; `http` turns them into metrics, `status` into lines. Plain numbers, read at any time. */
export interface PipelineCounters {
  transactions: number;
  changes: number;
  readBytes: number;
  appliedRows: number;
  groups: number;
  copyRows: number;
  copyBytes: number;
  rejectedRows: number;
  retries: number;
}

export const newCounters = (): PipelineCounters => ({
  transactions: 0,
  changes: 0,
  readBytes: 0,
  appliedRows: 0,
  groups: 0,
  copyRows: 0,
  copyBytes: 0,
  rejectedRows: 0,
  retries: 0,
});
