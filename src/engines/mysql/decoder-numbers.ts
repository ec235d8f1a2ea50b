const DIGITS_PER_WORD = 9;
/** Bytes that hold so many leading or trailing digits. */
const BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] as const;

export function decimalBytes(precision: number, scale: number): number {
  const whole = precision - scale;
  return (
    Math.floor(whole / DIGITS_PER_WORD) * 4 +
    (BYTES[whole % DIGITS_PER_WORD] as number) +
    Math.floor(scale / DIGITS_PER_WORD) * 4 +
    (BYTES[scale % DIGITS_PER_WORD] as number)
  );
}

/** A packed decimal as the server prints it: all digits of its scale. Nine digits a word, big-endian; a negative one is inverted. */
export function decimalText(buffer: Buffer, at: number, precision: number, scale: number): string {
  const negative = ((buffer[at] as number) & 0x80) === 0;
  const mask = negative ? 0xff : 0;
  let place = at;
  const take = (bytes: number): number => {
    let value = 0;
    for (let index = 0; index < bytes; index += 1, place += 1) {
      const flip = place === at ? 0x80 : 0;
      value = value * 256 + (((buffer[place] as number) ^ flip ^ mask) & 0xff);
    }
    return value;
  };
  const whole = precision - scale;
  let digits = '';
  const lead = whole % DIGITS_PER_WORD;
  if (lead > 0) digits += String(take(BYTES[lead] as number));
  for (let word = Math.floor(whole / DIGITS_PER_WORD); word > 0; word -= 1)
    digits += String(take(4)).padStart(DIGITS_PER_WORD, '0');
  digits = digits.replace(/^0+(?=\d)/, '');
  let fraction = '';
  for (let word = Math.floor(scale / DIGITS_PER_WORD); word > 0; word -= 1)
    fraction += String(take(4)).padStart(DIGITS_PER_WORD, '0');
  const tail = scale % DIGITS_PER_WORD;
  if (tail > 0) fraction += String(take(BYTES[tail] as number)).padStart(tail, '0');
  const text = `${digits === '' ? '0' : digits}${scale > 0 ? `.${fraction}` : ''}`;
  return negative ? `-${text}` : text;
}
