import { z } from 'zod';
import { VerdigrisError } from '../../core/errors.ts';
import { eventSchema } from '../../app/envelope.ts';
import { readStoredEvents } from '../../app/stored.ts';
import type { CommandContext } from '../context.ts';
import { plain } from '../format.ts';

const PAGE = 500;
const LOOK_MS = 1_000;

export async function events(
  context: CommandContext,
  options: { readonly since: string; readonly follow?: boolean },
): Promise<null> {
  let after = Number(options.since);
  if (!Number.isInteger(after) || after < 0)
    throw new VerdigrisError('USAGE', '--since needs the number of an event');
  const loaded = await context.load();
  const client = context.client(loaded);
  for (;;) {
    const answered = await client.find(`/api/v1/journal?after=${after}&limit=${PAGE}`);
    const page = answered
      ? z.array(eventSchema).parse(answered.data)
      : await readStoredEvents(loaded, context.logger(), { after, limit: PAGE });
    for (const event of page) {
      after = event.sequence;
      const detail = Object.entries(event.detail).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
      context.stream('Event', event, plain(`${event.sequence} ${event.at} ${event.event}${detail.join('')}`));
    }
    if (page.length === PAGE) continue;
    if (!options.follow) return null;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
