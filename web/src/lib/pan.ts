// Owns what is in sight of a terminal's grid that is larger than its place: the part with the cursor, until the user
// looks elsewhere. Knows no size of letters.
import type { Terminal } from "@xterm/xterm";

/** Cells in sight around the cursor, so that what it comes from and where it goes can be read. */
const MARGIN_CELLS = 2;

/** One direction of a grid in its place, in pixels: where the cursor's cell begins, the size of a cell, of the place. */
export interface Axis {
  at: number;
  cell: number;
  room: number;
}

interface Axes {
  x: Axis;
  y: Axis;
}

/** Returns how far to scroll for the cursor to be in sight: no further than it takes, so that lines are seen from their
 *  beginning if they can be. */
export function scrollFor({ at, cell, room }: Axis): number {
  return Math.max(0, at + (1 + MARGIN_CELLS) * cell - room);
}

/** Whether the cursor is in sight of a place that is scrolled so far. */
export function sees({ at, cell, room }: Axis, scrolled: number): boolean {
  return at >= scrolled && at + cell <= scrolled + room;
}

/** The view of a grid in `host`, which scrolls where the grid is larger. */
export class Pan {
  #host: HTMLElement;
  #terminal: Terminal;
  /** Whether the cursor is followed: until the user scrolls it out of sight, and again once it is back. */
  #follows = true;
  /** Where this last scrolled to; elsewhere the user did. */
  #own = "0,0";

  constructor(host: HTMLElement, terminal: Terminal) {
    this.#host = host;
    this.#terminal = terminal;
  }

  /** Brings the cursor into sight after the screen changed; leaves a place that the user chose with it in sight. */
  follow(): void {
    const axes = this.#axes();
    if (axes === null) return;
    if (this.#isChosen && this.#sees(axes)) this.#follows = true;
    else if (this.#follows) this.#scroll(axes);
  }

  /** Takes note that the host was scrolled. */
  scrolled(): void {
    const axes = this.#axes();
    if (axes !== null && this.#isChosen) this.#follows = this.#sees(axes);
  }

  #scroll(axes: Axes): void {
    this.#host.scrollTo(scrollFor(axes.x), scrollFor(axes.y));
    this.#own = this.#place;
  }

  get #place(): string {
    return [this.#host.scrollLeft, this.#host.scrollTop].join();
  }

  get #isChosen(): boolean {
    return this.#place !== this.#own;
  }

  #sees({ x, y }: Axes): boolean {
    return sees(x, this.#host.scrollLeft) && sees(y, this.#host.scrollTop);
  }

  /** Returns where the cursor is; `null` while it is out of the screen, in which the user scrolled back. */
  #axes(): Axes | null {
    const { buffer, cols, rows, element } = this.#terminal;
    const { baseY, cursorX, cursorY, viewportY } = buffer.active;
    const screen = element?.querySelector(".xterm-screen");
    const row = baseY + cursorY - viewportY;
    if (!screen || row >= rows) return null;
    const [width, height] = [screen.clientWidth / cols, screen.clientHeight / rows];
    return {
      x: { at: Math.min(cursorX, cols - 1) * width, cell: width, room: this.#host.clientWidth },
      y: { at: row * height, cell: height, room: this.#host.clientHeight },
    };
  }
}
