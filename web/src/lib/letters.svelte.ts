// Owns the font size of a terminal: the usual one, or smaller where a whole grid of a given size should fit.
import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal } from "@xterm/xterm";

/** The usual font size, in pixels. */
export const FONT_PIXELS = 14;
/** Smallest font size that is read at ease on a phone; of a grid that does not fit at this size a part is in sight. */
const SMALLEST_FONT_PIXELS = 10;

/** The letters of one terminal. */
export class Letters {
  /** Whether the whole grid fits only with letters that are hard to read. */
  areSmall = $state(false);
  /** Whether the user wants to see all of it even so. */
  whole = $state(false);
  #terminal: Terminal;
  #fit: FitAddon;

  constructor(terminal: Terminal, fit: FitAddon) {
    [this.#terminal, this.#fit] = [terminal, fit];
  }

  /** Sets the largest font size, up to the usual one, at which a grid of `cols` × `rows` fits into the terminal's host; a
   *  host that is too small at any readable size is panned. */
  fit(cols: number, rows: number): void {
    const { options } = this.#terminal;
    options.fontSize = FONT_PIXELS;
    const room = this.#fit.proposeDimensions();
    const scale = room === undefined ? 1 : Math.min(1, room.cols / cols, room.rows / rows);
    const pixels = Math.floor(FONT_PIXELS * scale);
    this.areSmall = pixels < SMALLEST_FONT_PIXELS;
    options.fontSize = Math.max(this.whole ? 1 : SMALLEST_FONT_PIXELS, pixels);
    this.#pans(this.areSmall && !this.whole);
  }

  /** Shows all of the grid, or again what can be read. */
  toggle(): void {
    this.whole = !this.whole;
    this.fit(this.#terminal.cols, this.#terminal.rows);
  }

  /** Gives a terminal whose grid fills its host the usual font size. */
  reset(): void {
    this.areSmall = false;
    this.#terminal.options.fontSize = FONT_PIXELS;
    this.#pans(false);
  }

  #pans(is: boolean): void {
    this.#terminal.element?.parentElement?.classList.toggle("panned", is);
  }
}
