import { runClients } from '../client-process.ts';
import { Shopper } from './shopper.ts';

runClients((number, options, book) => new Shopper(number, options, book));
