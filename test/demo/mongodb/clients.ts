/** The process of the clients: nothing else runs in it, so that the times they measure are their own. Started by load.ts. */
import type { FromClients, Orders, ToClients } from './load.ts';
import { newBook, Shopper } from './shopper.ts';

const PROGRESS_MS = 500;

const book = newBook();
let shoppers: Shopper[] = [];

// The parent is gone: nobody would stop the clients.
process.once('disconnect', () => process.exit(1));
// Ctrl-C reaches the whole group; the parent decides in which order things end.
process.on('SIGINT', () => undefined);
process.on('message', (message: ToClients) => {
  if (message.kind === 'hold') for (const shopper of shoppers) shopper.hold();
  else void run(message.orders);
});

async function run(orders: Orders): Promise<void> {
  shoppers = Array.from({ length: orders.count }, (_, number) => new Shopper(number, orders, book));
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
