import { postgresHarness } from '../support/postgres-harness.ts';
import { registerEngineContract } from './engine/register.ts';

registerEngineContract(postgresHarness());
