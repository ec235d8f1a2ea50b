import { mongoHarness } from '../support/mongo-harness.ts';
import { registerEngineContract } from './engine/register.ts';

registerEngineContract(mongoHarness());
