// Owns the font size of a terminal: the usual one, or smaller where a whole grid of a given size should fit.
import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal } from "@xterm/xterm";

/** The usual font size, in pixels. */
export const FONT_PIXELS = 14;
/** Smallest font size that is read at ease on a phone; of a grid that does not fit at this size a part is in sight. */
const SMALLEST_FONT_PIXELS = 10;

/** Sets the largest font size, up to the usual one, at which a grid of `cols` × `rows` fits into the terminal's host; a
 *  host that is too small at any readable size is panned. */
export function fitLetters(terminal: Terminal, fit: FitAddon, cols: number, rows: number): void {
  terminal.options.fontSize = FONT_PIXELS;
  const room = fit.proposeDimensions();
  const scale = room === undefined ? 1 : Math.min(1, room.cols / cols, room.rows / rows);
  const pixels = Math.floor(FONT_PIXELS * scale);
  terminal.options.fontSize = Math.max(SMALLEST_FONT_PIXELS, pixels);
  terminal.element?.parentElement?.classList.toggle("panned", pixels < SMALLEST_FONT_PIXELS);
}
