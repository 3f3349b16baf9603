// Tests which part of a grid that is larger than its place is in sight.
import { expect, test } from "vitest";
import { scrollFor, sees } from "./pan";

const at = (column: number) => ({ at: column * 6, cell: 6, room: 360 });

test.each([
  [0, 0],
  [57, 0],
  [58, 6],
  [100, 258],
])("with the cursor in column %i of 60 in sight one scrolls by %i", (column, scrolled) => {
  expect(scrollFor(at(column))).toBe(scrolled);
  expect(sees(at(column), scrolled)).toBe(true);
});

test("the_cursor_is_seen_only_where_all_of_it_is_in_sight", () => {
  expect([59, 60].map((column) => sees(at(column), 0))).toEqual([true, false]);
  expect([10, 9].map((column) => sees(at(column), 60))).toEqual([true, false]);
});
