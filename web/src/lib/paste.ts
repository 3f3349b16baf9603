// Owns which part of a paste reaches a terminal, and when the user is asked first. Knows neither clipboard nor screen.

// C0 except tab and line breaks, DEL, and C1. With ESC a text could end its own bracketed paste and run what follows.
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

const BREAK = /\r\n|\r|\n/;

/** Returns a pasted text as a keyboard could have typed it: without control characters except tabs and line breaks. */
export function plainPaste(text: string): string {
  return text.replace(CONTROLS, "");
}

/** Returns the lines of a text; breaks at its end add none. */
export function linesOf(text: string): string[] {
  return text.replace(/[\r\n]+$/, "").split(BREAK);
}

/**
 * Whether a paste needs the user's confirmation: it has several lines, and the target has not turned on bracketed paste
 * mode, which tells a paste from typing, so its shell would run them one by one.
 */
export function asksFirst(text: string, bracketed: boolean): boolean {
  return !bracketed && linesOf(text).length > 1;
}
