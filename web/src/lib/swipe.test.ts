// Tests how far a swipe scrolls, and which swipes do.
import type { Terminal } from "@xterm/xterm";
import { expect, test, vi } from "vitest";
import { scrollBySwipes, scrollsLines, stepsOf } from "./swipe";

test("no_part_of_a_swipe_is_lost_between_its_whole_lines", () => {
  let [way, lines] = [0, 0];
  for (const moved of [10, 10, 10, -7, 40, -63]) {
    const [steps, left] = stepsOf(way + moved, 16);
    [way, lines] = [left, lines + steps];
  }
  expect([lines, way]).toEqual([0, 0]);
  expect(stepsOf(47, 16)).toEqual([2, 15]);
  expect(stepsOf(-47, 16)).toEqual([-2, -15]);
});

test("a_swipe_scrolls_lines_only_if_it_is_upright", () => {
  expect([[0, 9], [3, -9], [9, 9], [30, 4]].map(([x = 0, y = 0]) => scrollsLines(x, y, null))).toEqual([true, true, false, false]);
});

test("where_a_grid_is_panned_a_swipe_scrolls_lines_only_beyond_its_edge", () => {
  const at = (scrollTop: number) => ({ scrollTop, scrollHeight: 500, clientHeight: 300 });
  const down = [0, 100, 200].map((top) => scrollsLines(0, 20, at(top)));
  const up = [0, 100, 200].map((top) => scrollsLines(0, -20, at(top)));
  expect([down, up]).toEqual([[true, false, false], [false, false, true]]);
});

test("a_swipe_scrolls_also_where_the_browser_changes_its_touch_in_place", () => {
  const host = Object.assign(new EventTarget(), { classList: { contains: () => false } });
  const active = { type: "normal", viewportY: 50, baseY: 100 };
  const scrollToLine = vi.fn((line: number) => void (active.viewportY = line));
  const element = { querySelector: () => ({ clientHeight: 100 }) };
  const terminal = { buffer: { active }, modes: { mouseTrackingMode: "none" }, options: {}, element, rows: 10, scrollToLine };
  scrollBySwipes(host as unknown as HTMLElement, terminal as unknown as Terminal);
  const touch = { clientX: 0, clientY: 0 };
  for (const [type, clientY] of [["touchstart", 90], ["touchmove", 55]] as const) {
    host.dispatchEvent(Object.assign(new Event(type), { touches: [Object.assign(touch, { clientY })] }));
  }
  expect(scrollToLine).toHaveBeenCalledExactlyOnceWith(53);
});
