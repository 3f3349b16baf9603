// Owns what of a paste reaches a terminal, and when the person is asked first. Knows neither clipboard nor screen.

// C0 but tab and line breaks, DEL, and C1. With ESC a pasted text could end its own brackets and run what follows.
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

const BREAK = /\r\n|\r|\n/;

/** A pasted text as a keyboard could have typed it: no control characters but tabs and line breaks. */
export function plainPaste(text: string): string {
  return text.replace(CONTROLS, "");
}

/** The lines of a text; breaks at its end make no line of their own. */
export function linesOf(text: string): string[] {
  return text.replace(/[\r\n]+$/, "").split(BREAK);
}

/**
 * Whether a paste must be asked for: it has several lines, and the target did not say (by bracketed paste mode) that it
 * tells a paste from typing, so its shell would run them one by one.
 */
export function asksFirst(text: string, bracketed: boolean): boolean {
  return !bracketed && linesOf(text).length > 1;
}
