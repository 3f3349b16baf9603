// Owns what a finger does that is drawn up or down over a terminal: it scrolls, as a wheel does. xterm.js heeds no
// touch.
import type { Terminal } from "@xterm/xterm";

/** How far a finger that only taps may move, in pixels. */
export const SLOP_PIXELS = 8;

/** Lines by which most programs scroll for one notch of a wheel. */
const NOTCH_LINES = 3;

/** Returns the whole steps in a way, towards zero, and what is left of it for the next. */
export function stepsOf(way: number, step: number): [steps: number, left: number] {
  const steps = Math.trunc(way / step);
  return [steps, way - steps * step];
}

/** The place of a grid, which is panned where the grid is larger. */
export type Place = Pick<HTMLElement, "scrollTop" | "scrollHeight" | "clientHeight">;

/** Whether a finger that was drawn so far scrolls the lines: upright, and where the place, if it is panned, ends. */
export function scrollsLines(x: number, y: number, panned: Place | null): boolean {
  if (Math.abs(y) <= Math.abs(x)) return false;
  if (panned === null) return true;
  const { scrollTop, scrollHeight, clientHeight } = panned;
  return y > 0 ? scrollTop < 1 : scrollHeight - clientHeight - scrollTop < 1;
}

/** Makes fingers scroll this terminal in `host`; the returned function ends that. */
export function scrollBySwipes(host: HTMLElement, terminal: Terminal): () => void {
  const begin = (event: TouchEvent) => {
    const [finger, second] = event.touches;
    // Two fingers zoom.
    if (finger !== undefined && second === undefined) follow(finger, host, terminal);
  };
  host.addEventListener("touchstart", begin, { passive: true });
  return () => host.removeEventListener("touchstart", begin);
}

/** Follows one finger until it is lifted. Keeps where it began, not the `Touch`, which older iOS changes in place. */
function follow({ clientX: firstX, clientY: firstY }: Touch, host: HTMLElement, terminal: Terminal) {
  const over = new AbortController();
  let scrolls: boolean | null = null;
  let [lastY, way] = [firstY, 0];
  const move = (event: TouchEvent) => {
    const [finger, second] = event.touches;
    if (finger === undefined || second !== undefined) return over.abort();
    const [x, y] = [finger.clientX - firstX, finger.clientY - firstY];
    if (scrolls === null && Math.hypot(x, y) < SLOP_PIXELS) return;
    scrolls ??= scrollsLines(x, y, host.classList.contains("panned") ? host : null);
    if (!scrolls) return over.abort();
    // The browser would pull the page, or reload it.
    if (event.cancelable) event.preventDefault();
    way = scroll(terminal, way + lastY - finger.clientY, finger);
    lastY = finger.clientY;
  };
  const { signal } = over;
  host.addEventListener("touchmove", move, { passive: false, signal });
  for (const end of ["touchend", "touchcancel"]) host.addEventListener(end, () => over.abort(), { signal });
}

/** Scrolls by the whole lines in `way`, and returns what is left of it. */
function scroll(terminal: Terminal, way: number, finger: Touch): number {
  const { buffer, modes, options, element, rows } = terminal;
  const line = (element?.querySelector(".xterm-screen")?.clientHeight ?? 0) / rows;
  if (line === 0) return 0;
  // Without input nothing is told to the program.
  const reports = options.disableStdin !== true && !["none", "x10"].includes(modes.mouseTrackingMode);
  const [steps, left] = stepsOf(way, reports ? NOTCH_LINES * line : line);
  if (buffer.active.type === "normal" && !reports) {
    if (steps !== 0) show(terminal, buffer.active.viewportY + steps);
    return left;
  }
  // xterm.js makes of each what the program wants: a report, or an arrow key.
  const { clientX, clientY } = finger;
  const wheel = { deltaY: Math.sign(steps), deltaMode: WheelEvent.DOM_DELTA_LINE, clientX, clientY, cancelable: true };
  for (let step = 0; step < Math.abs(steps); step += 1) element?.dispatchEvent(new WheelEvent("wheel", wheel));
  return left;
}

/** Shows the lines from this one on, as far as there are any. */
function show(terminal: Terminal, wanted: number): void {
  const { active } = terminal.buffer;
  const line = Math.max(0, Math.min(wanted, active.baseY));
  terminal.scrollToLine(line);
  if (active.viewportY === line) return;
  // xterm.js counts in pixels, and after a change of the letters' size from where the line was before. From the top it
  // counts right; the largest letters are not twice the smallest.
  terminal.scrollLines(-2 * active.length);
  terminal.scrollLines(line);
}
