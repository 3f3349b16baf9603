// Tests how far a swipe scrolls, and which swipes do.
import { expect, test } from "vitest";
import { scrollsLines, stepsOf } from "./swipe";

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
