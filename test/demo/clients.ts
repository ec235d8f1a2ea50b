/** The process of the clients: nothing else runs in it, so that the times they measure are their own. Started by load.ts. */
import type { ClientOptions, Failure, FromClients, ToClients, Wait } from './ledger.ts';
import { Shopper } from './shopper.ts';

const PROGRESS_MS = 500;

const book = {
  committed: [] as string[],
  failures: [] as Failure[],
  waits: [] as Wait[],
  byAction: {} as Record<string, number>,
};
let shoppers: Shopper[] = [];

// The parent is gone: nobody would stop the clients.
process.once('disconnect', () => process.exit(1));
// Ctrl-C reaches the whole group; the parent decides in which order things end.
process.on('SIGINT', () => undefined);
process.on('message', (message: ToClients) => {
  if (message.kind === 'hold') for (const shopper of shoppers) shopper.hold();
  else void run(message.options);
});

async function run(options: ClientOptions): Promise<void> {
  shoppers = Array.from({ length: options.count }, (_, number) => new Shopper(number, options, book));
  await Promise.all(shoppers.map((shopper) => shopper.connect()));
  tell({ kind: 'connected' });
  const progress = setInterval(
    () => tell({ kind: 'progress', committed: book.committed.length, failed: book.failures.length }),
    PROGRESS_MS,
  );
  await Promise.all(shoppers.map((shopper) => shopper.shop()));
  clearInterval(progress);
  tell({ kind: 'ledger', ledger: book });
}

function tell(message: FromClients): void {
  process.send?.(message);
}
