import { createHmac, hash as digest } from 'node:crypto';
import { derived, type Operation } from './operation.ts';

/** `hash`: of the value's canonical text in UTF-8, as lower-case hex; with `key` an HMAC. */
export const hash: Operation = {
  options: ['algorithm', 'key'],
  compile(context) {
    const { algorithm = 'sha256', key } = context.options;
    return {
      text: key === undefined ? `hash ${algorithm}` : `hash ${algorithm} with a key`,
      apply:
        key === undefined
          ? (text) => digest(algorithm, text)
          : (text) => createHmac(algorithm, key).update(text).digest('hex'),
      output: derived('text', context.input.nullable),
      inverse: { reason: 'a hash has no way back' },
    };
  },
};
