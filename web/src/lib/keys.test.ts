// Tests which letter a key is.
import { expect, test } from "vitest";
import { letterOf } from "./keys";

test.each([
  ["C", "KeyC", "C", "American"],
  ["c", "KeyC", "C", "American, with the Mac's command key"],
  ["C", "KeyI", "C", "Dvorak"],
  ["J", "KeyC", "J", "Dvorak, where C is on an American keyboard"],
  ["Ä", "KeyC", "Ä", "Neo, where C is on an American keyboard"],
  ["С", "KeyC", "C", "Russian"],
  ["Ψ", "KeyC", "C", "Greek"],
  ["ArrowUp", "ArrowUp", "ArrowUp", "any"],
  ["Unidentified", "KeyV", "V", "unknown"],
])("the key %s at %s is %s (%s)", (key, code, letter) => {
  expect(letterOf({ key, code })).toBe(letter);
});
