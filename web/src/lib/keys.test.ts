// Tests which letter a key is, and what Ctrl makes of one.
import { expect, test } from "vitest";
import { arrowKey, letterOf, takesCtrl, withCtrl } from "./keys";

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

const bytes = (text: string) => new TextEncoder().encode(text);

test.each([
  ["c", "\x03"],
  ["C", "\x03"],
  ["z", "\x1a"],
  ["@", "\x00"],
  ["[", "\x1b"],
  ["\\", "\x1c"],
  ["]", "\x1d"],
  ["^", "\x1e"],
  ["_", "\x1f"],
  ["?", "\x7f"],
  [" ", "\x00"],
  ["1", "1"],
  ["{", "{"],
  ["|", "|"],
  ["\r", "\r"],
  ["é", "é"],
  ["word", "word"],
])("Ctrl makes of %j %j", (typed, sent) => {
  expect(withCtrl(bytes(typed))).toEqual(bytes(sent));
});

test("what_a_terminal_sends_by_itself_is_no_key_for_ctrl", () => {
  expect(["\x1b[I", "\x1b[0n", "\x1b[A", ""].map((text) => takesCtrl(bytes(text)))).toEqual([false, false, false, false]);
  expect(["c", "\x1b", "é", "word"].map((text) => takesCtrl(bytes(text)))).toEqual([true, true, true, true]);
});

test("an_arrow_key_follows_the_mode_of_the_target", () => {
  expect([arrowKey("A", false, false), arrowKey("A", true, false), arrowKey("D", true, true)]).toEqual(["\x1b[A", "\x1bOA", "\x1b[1;5D"]);
});
