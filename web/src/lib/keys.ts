// Owns what a key is where keyboards differ: letters by their layout. Knows no terminal.

/** Returns the letter of a key as its layout has it, in upper case; a layout that is not Latin has none, and there the
 *  key's place on an American keyboard counts. Any other key is returned by its name. */
export function letterOf({ key, code }: Pick<KeyboardEvent, "key" | "code">): string {
  return /^\p{Script=Latin}$/u.test(key) ? key.toUpperCase() : code.replace(/^Key/, "");
}
