type StreamDirection = 'forward' | 'reverse';

/** Prefix of the logical messages that we write into the log. */
export const MARK_PREFIX = 'verdigris';

/** Prefix of the message that every transaction of our sinks begins with. */
export const APPLY_PREFIX = 'verdigris.apply';

/**
 * Says whose apply a transaction is. With the direction: where two migrations of one name are chained, what the first one brings here
 * (forward) is new to the second one, and only what the second one brings back (reverse) is its own.
 */
export const applyContent = (migration: string, direction: StreamDirection): string =>
  JSON.stringify([migration, direction]);

/** A transaction with this content holds nothing new for a stream of that direction: it came from where the stream leads. */
export const isOwnApply = (
  stream: { migration: string; direction: StreamDirection },
  content: Buffer,
): boolean =>
  content.toString() ===
  applyContent(stream.migration, stream.direction === 'forward' ? 'reverse' : 'forward');

/** Content of a mark. JSON, so that names and labels of any spelling cannot run into one another. */
export const markContent = (migration: string, label: string): string => JSON.stringify({ migration, label });

/**
 * The label of a logical message with our prefix, or null when it belongs to another migration. A fence writes its barrier as
 * `fence <migration> <epoch>`; its label is `fence <epoch>`.
 */
export function markLabel(migration: string, content: Buffer): string | null {
  const text = content.toString();
  const fence = `fence ${migration} `;
  if (text.startsWith(fence)) return `fence ${text.slice(fence.length)}`;
  try {
    const mark = JSON.parse(text) as unknown;
    if (typeof mark !== 'object' || mark === null) return null;
    const { migration: owner, label } = mark as Record<string, unknown>;
    return owner === migration && typeof label === 'string' ? label : null;
  } catch {
    return null;
  }
}
