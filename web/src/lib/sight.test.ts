// Tests how high the page is beside a soft keyboard.
import { expect, test } from "vitest";
import { heightInSight } from "./sight";

test("a_keyboard_over_the_page_leaves_it_what_is_in_sight_and_a_zoom_all", () => {
  expect(heightInSight(667, { height: 407, scale: 1 })).toBe("407px");
  expect(heightInSight(667, { height: 667, scale: 1 })).toBe(null);
  expect(heightInSight(553, { height: 600, scale: 1 })).toBe(null);
  expect(heightInSight(667, { height: 333.5, scale: 2 })).toBe(null);
});
