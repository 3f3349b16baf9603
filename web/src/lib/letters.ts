// Owns the font size of a terminal: the usual one, or smaller where a whole grid of a given size must fit.
import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal } from "@xterm/xterm";

/** The usual font size, in pixels. */
export const FONT_PIXELS = 14;
/** Smallest readable font size; a grid that does not fit at this size is partly out of sight. */
const SMALLEST_FONT_PIXELS = 5;

/** Sets the largest font size, up to the usual one, at which a grid of `cols` × `rows` fits into the terminal's
 *  host. */
export function fitLetters(terminal: Terminal, fit: FitAddon, cols: number, rows: number): void {
  terminal.options.fontSize = FONT_PIXELS;
  const room = fit.proposeDimensions();
  const scale = room === undefined ? 1 : Math.min(1, room.cols / cols, room.rows / rows);
  terminal.options.fontSize = Math.max(SMALLEST_FONT_PIXELS, Math.floor(FONT_PIXELS * scale));
}
