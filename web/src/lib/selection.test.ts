// Tests that what a finger selects in a terminal stays the same text while lines come, and ends with it. What xterm.js
// makes of it is tested in a browser.
import { Terminal } from "@xterm/xterm";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { TouchSelection } from "./selection.svelte";

const [COLS, ROWS, SCROLLBACK] = [40, 6, 4];

/** One finger over a terminal whose cells are one pixel large. The browser changes its touch in place. */
class Finger {
  readonly terminal = new Terminal({ cols: COLS, rows: ROWS, scrollback: SCROLLBACK });
  readonly selection: TouchSelection;
  readonly select = vi.spyOn(this.terminal, "select").mockReturnValue();
  #touch = { clientX: 0, clientY: 0 };
  #host = Object.assign(new EventTarget(), {
    classList: { add: () => undefined, remove: () => undefined },
    getBoundingClientRect: () => ({ left: 0, right: COLS, top: 0, bottom: ROWS }),
    scrollBy: () => undefined,
  });

  constructor() {
    this.selection = new TouchSelection(this.#host as unknown as HTMLElement, this.terminal);
  }

  write(text: string): Promise<void> {
    return new Promise((parsed) => this.terminal.write(text, parsed));
  }

  touch(type: "touchstart" | "touchmove" | "touchend", x = 0, y = 0) {
    Object.assign(this.#touch, { clientX: x, clientY: y });
    const touches = type === "touchend" ? [] : [this.#touch];
    this.#host.dispatchEvent(Object.assign(new Event(type, { cancelable: true }), { touches }));
  }

  hold(x: number, y: number) {
    vi.useFakeTimers();
    this.touch("touchstart", x, y);
    vi.runAllTimers();
    vi.useRealTimers();
  }

  /** Returns the text that was selected last. */
  selected(): string {
    const [col, row, length] = this.select.mock.lastCall ?? [0, 0, 0];
    return this.terminal.buffer.active.getLine(row)?.translateToString(true, col, col + length) ?? "";
  }
}

let finger: Finger;

beforeEach(async () => {
  vi.stubGlobal("DOMRect", class {
    constructor() {
      return { left: 0, top: 0, width: COLS, height: ROWS };
    }
  });
  finger = new Finger();
  await finger.write("one\r\ntwo three four five\r\nsix\r\n");
});
afterEach(() => void vi.useRealTimers().unstubAllGlobals());

/** Writes so many lines; the first is dropped with the seventh. */
const lines = (count: number) => finger.write("more\r\n".repeat(count));

test("a_selection_ends_once_its_first_row_is_dropped_and_no_sooner", async () => {
  finger.hold(5, 1);
  finger.touch("touchend");
  expect([finger.selected(), finger.selection.shown]).toEqual(["three", true]);
  await lines(7);
  expect(finger.selection.shown).toBe(true);
  await lines(1);
  expect(finger.selection.shown).toBe(false);
});

test("a_selection_ends_once_its_first_row_is_erased", async () => {
  finger.hold(5, 1);
  finger.touch("touchend");
  await finger.write("\x1b[2J");
  expect(finger.selection.shown).toBe(false);
});

test("a_selection_ends_where_its_lines_are_wrapped_anew", () => {
  finger.hold(5, 1);
  finger.touch("touchend");
  finger.terminal.resize(COLS - 1, ROWS);
  expect(finger.selection.shown).toBe(false);
});

test("a_selection_is_taken_further_from_its_word_after_lines_were_dropped", async () => {
  finger.hold(11, 1);
  finger.touch("touchmove", 1, 0);
  expect(finger.select.mock.lastCall).toEqual([1, 0, COLS + 13]);
  finger.touch("touchmove", 4, 1);
  await lines(7);
  finger.terminal.scrollToTop();
  finger.touch("touchmove", 18, 0);
  expect(finger.selected()).toBe("four five");
  finger.touch("touchmove", 5, 0);
  expect(finger.selected()).toBe("hree four");
});

test("all_stays_selected_whatever_lines_are_dropped", async () => {
  finger.hold(5, 1);
  finger.touch("touchend");
  finger.selection.selectAll();
  await lines(20);
  expect(finger.selection.shown).toBe(true);
  // From its beginning on a finger makes it shorter.
  finger.touch("touchstart", 30, 1);
  finger.touch("touchmove", 3, 1);
  expect(finger.select).toHaveBeenLastCalledWith(0, 0, (SCROLLBACK + 1) * COLS + 4);
});

test("a_finger_that_moves_on_before_it_was_held_selects_nothing", () => {
  vi.useFakeTimers();
  finger.touch("touchstart", 5, 1);
  finger.touch("touchmove", 20, 1);
  vi.runAllTimers();
  vi.useRealTimers();
  expect(finger.select).not.toHaveBeenCalled();
});
