// Owns what a key is where keyboards differ: letters by their layout, and the keys that soft keyboards lack. Knows no
// terminal.

/** Returns the letter of a key as its layout has it, in upper case; a layout that is not Latin has none, and there the
 *  key's place on an American keyboard counts. Any other key is returned by its name. */
export function letterOf({ key, code }: Pick<KeyboardEvent, "key" | "code">): string {
  return /^\p{Script=Latin}$/u.test(key) ? key.toUpperCase() : code.replace(/^Key/, "");
}

/** Whether these bytes may be typed by one key that Ctrl is held with: not a sequence, which a terminal sends by itself
 *  too. */
export function takesCtrl(typed: Uint8Array): boolean {
  return typed.length > 0 && (typed.length === 1 || typed[0] !== 0x1b);
}

/** Returns the bytes of a key with Ctrl held: the control character of a letter, of one of `@[\]^_?` or of a blank
 *  (ECMA-48, xterm); anything else is left as it is. */
export function withCtrl(typed: Uint8Array): Uint8Array {
  const [byte = 0] = typed;
  if (typed.length !== 1) return typed;
  if (byte === 0x20) return Uint8Array.of(0);
  const upper = byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
  return upper >= 0x3f && upper <= 0x5f ? Uint8Array.of(upper ^ 0x40) : typed;
}

/** The last letters of the sequences of the arrow keys. */
export type Arrow = "A" | "B" | "C" | "D";

/** Returns the sequence of an arrow key, as xterm sends it; `application`: the target has turned on application cursor
 *  mode (DECCKM). */
export function arrowKey(arrow: Arrow, application: boolean, ctrl: boolean): string {
  if (ctrl) return `\x1b[1;5${arrow}`;
  return `\x1b${application ? "O" : "["}${arrow}`;
}
