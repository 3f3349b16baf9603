// Owns what a finger selects in a terminal: a long press selects a word, and until the user is done each finger that is
// drawn over the terminal takes the selection further, instead of scrolling. xterm.js heeds no touch.
import type { IMarker, Terminal } from "@xterm/xterm";
import { copySelection } from "./copy";
import { across, characterAt, moved, wordAt, type Grid, type Span } from "./span";
import { SLOP_PIXELS } from "./swipe";

/** Time for which a finger is held for a long press; that of Android and iOS. */
const HOLD_MS = 500;

/** How near the side of a place that is panned a finger pans it, in pixels: a phone's screen ends there. */
const EDGE_PIXELS = 16;

/** Where a finger is. */
type Point = Pick<Touch, "clientX" | "clientY">;

/** A finger on the terminal. */
interface Press {
  /** Where it began; not the `Touch`, which older iOS changes in place. */
  readonly first: Point;
  readonly timer: ReturnType<typeof setTimeout>;
  /** Whether it has selected something. */
  selects: boolean;
}

/** What fingers select in one terminal in `host`. */
export class TouchSelection {
  /** Whether something is selected that the user is not done with. */
  shown = $state(false);
  /** Whether copying what is selected worked; `null` before that. */
  copied = $state<boolean | null>(null);
  #host: HTMLElement;
  #terminal: Terminal;
  #press: Press | null = null;
  /** What the selection begins or ends with, while there is one by a finger; counted from the selection's first row. */
  #anchor: Span | null = null;
  /** Marks the selection's first row, as lines are dropped above; `null` if all is selected. */
  #mark: IMarker | null = null;
  #over = new AbortController();

  constructor(host: HTMLElement, terminal: Terminal) {
    [this.#host, this.#terminal] = [host, terminal];
    const { signal } = this.#over;
    // Ahead of those who scroll.
    const listen = <T extends Event>(type: string, listener: (event: T) => void, passive: boolean) =>
      host.addEventListener(type, listener as (event: Event) => void, { capture: true, passive, signal });
    listen("touchstart", (event: TouchEvent) => this.#begin(event), true);
    listen("touchmove", (event: TouchEvent) => this.#move(event), false);
    listen("touchend", (event: TouchEvent) => this.#end(event), false);
    listen("touchcancel", (event: TouchEvent) => this.#end(event), false);
    listen("contextmenu", (event) => this.#press !== null && keep(event), false);
    // Typing and a change of the rows clear it. After one of the columns other text is in its place.
    terminal.onSelectionChange(() => terminal.hasSelection() || this.done());
    terminal.onResize(() => this.done());
  }

  async copy(): Promise<void> {
    this.copied = await copySelection(this.#terminal);
  }

  selectAll(): void {
    this.#set({ from: 0, to: 0 }, null);
    this.#terminal.selectAll();
  }

  /** Clears the selection; fingers scroll again. */
  done(): void {
    if (this.#anchor === null) return;
    this.#set(null, null);
    this.shown = false;
    this.#host.classList.remove("selecting");
    this.#terminal.clearSelection();
  }

  dispose(): void {
    this.#lift();
    this.#over.abort();
  }

  #begin(event: TouchEvent): void {
    this.#lift();
    const [first, second] = event.touches;
    // Two fingers zoom.
    if (first === undefined || second !== undefined) return;
    const press: Press = { first: { clientX: first.clientX, clientY: first.clientY }, selects: false, timer: setTimeout(() => this.#hold(press), HOLD_MS) };
    this.#press = press;
  }

  #hold(press: Press): void {
    press.selects = true;
    const { wordSeparator = " " } = this.#terminal.options;
    const word = wordAt(this.#grid, this.#cellUnder(press.first), wordSeparator);
    this.#host.classList.add("selecting");
    this.#select(word, word);
  }

  #move(event: TouchEvent): void {
    const [press, [finger, second]] = [this.#press, event.touches];
    if (press === null || finger === undefined) return;
    const way = Math.hypot(finger.clientX - press.first.clientX, finger.clientY - press.first.clientY);
    if (second === undefined && !press.selects && way < SLOP_PIXELS) return;
    if (second !== undefined || this.#anchor === null) return this.#lift();
    clearTimeout(press.timer);
    press.selects = true;
    keep(event);
    this.#follow(finger);
    this.#extend(this.#anchor, finger);
  }

  #end(event: TouchEvent): void {
    const press = this.#press;
    this.#lift();
    if (press === null || this.#anchor === null) return;
    // It is no click: neither on the program, nor for the focus, which would open the keyboard.
    if (event.cancelable) event.preventDefault();
    if (!press.selects) this.done();
  }

  #lift(): void {
    clearTimeout(this.#press?.timer);
    // Only now, since what then appears may move the terminal.
    if (this.#press?.selects) this.shown = this.#anchor !== null;
    this.#press = null;
  }

  /** Shows more where the finger is at an edge. */
  #follow({ clientX, clientY }: Point): void {
    const { left, right, top, bottom } = this.#host.getBoundingClientRect();
    const step = (at: number, first: number, last: number) => Number(at > last) - Number(at < first);
    const [x, y] = [step(clientX, left + EDGE_PIXELS, right - EDGE_PIXELS), step(clientY, top, bottom)];
    this.#host.scrollBy(x * EDGE_PIXELS, y * EDGE_PIXELS);
    if (y !== 0) this.#terminal.scrollLines(y);
  }

  #extend(anchor: Span, finger: Point): void {
    const now = moved(anchor, (this.#mark?.line ?? 0) * this.#terminal.cols);
    this.#select(now, across(now, characterAt(this.#grid, this.#cellUnder(finger))));
  }

  #select(anchor: Span, { from, to }: Span): void {
    const { cols, buffer } = this.#terminal;
    const row = Math.floor(from / cols);
    this.#set(moved(anchor, -row * cols), this.#terminal.registerMarker(row - buffer.active.baseY - buffer.active.cursorY));
    this.#terminal.select(from % cols, row, to - from);
  }

  #set(anchor: Span | null, mark: IMarker | null): void {
    const before = this.#mark;
    [this.#anchor, this.#mark, this.copied] = [anchor, mark, null];
    before?.dispose();
    // xterm.js would go on from the row that takes the place of one which was dropped.
    mark?.onDispose(() => mark === this.#mark && this.done());
  }

  get #grid(): Grid {
    return { lines: this.#terminal.buffer.active, cols: this.#terminal.cols };
  }

  /** Returns the cell under a finger, or the one nearest to it. */
  #cellUnder({ clientX, clientY }: Point): number {
    const { cols, rows, element, buffer } = this.#terminal;
    const box = element?.querySelector(".xterm-screen")?.getBoundingClientRect() ?? new DOMRect();
    const place = (at: number, size: number, count: number) => Math.max(0, Math.min(count - 1, Math.floor((at / size) * count)));
    const row = buffer.active.viewportY + place(clientY - box.top, box.height, rows);
    return row * cols + place(clientX - box.left, box.width, cols);
  }
}

/** Keeps an event from the browser and from everyone else. */
function keep(event: Event): void {
  if (event.cancelable) event.preventDefault();
  event.stopPropagation();
}
