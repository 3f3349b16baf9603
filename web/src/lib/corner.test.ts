// Tests that the cards over a terminal keep away from the line that the user looks at.
import { expect, test } from "vitest";
import { cornerFor } from "./corner";

test.each([
  ["top", 0, "bottom"],
  ["top", 0.39, "bottom"],
  ["bottom", 0.61, "top"],
  ["bottom", 1, "top"],
  ["top", 0.5, "top"],
  ["bottom", 0.5, "bottom"],
  ["top", null, "top"],
  ["bottom", null, "bottom"],
] as const)("cards in the %s corner, looking at %s: the %s one", (now, at, then) => {
  expect(cornerFor(now, at)).toBe(then);
});
