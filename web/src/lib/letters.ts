// Owns how large the letters of a terminal are: as people read them, or smaller where a whole grid is to be in sight.
import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal } from "@xterm/xterm";

/** The usual size. */
export const FONT_PIXELS = 14;
/** Smaller letters nobody reads: then a part of the terminal is out of sight. */
const SMALLEST_FONT_PIXELS = 5;

/** Makes the letters as large as a grid of this size allows that is to fit into the terminal's host. */
export function fitLetters(terminal: Terminal, fit: FitAddon, cols: number, rows: number): void {
  terminal.options.fontSize = FONT_PIXELS;
  const room = fit.proposeDimensions();
  const scale = room === undefined ? 1 : Math.min(1, room.cols / cols, room.rows / rows);
  terminal.options.fontSize = Math.max(SMALLEST_FONT_PIXELS, Math.floor(FONT_PIXELS * scale));
}
