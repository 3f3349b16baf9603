// Tests which cells a finger selects: a word, and from there on either way.
import type { IBufferCell, IBufferLine } from "@xterm/xterm";
import { expect, test } from "vitest";
import { across, characterAt, wordAt, type Grid } from "./span";

const COLS = 10;
const SEPARATORS = " ()";

/** Returns a grid of these rows; `>` before one: it goes on with the line above. A wide character takes two cells. */
function grid(...rows: string[]): Grid {
  const lines = rows.map((row) => {
    const cells = [...row.replace(/^>/, "")].flatMap((chars) => (chars > "\u2e80" ? [[chars, 2], ["", 0]] : [[chars, 1]]) as [string, number][]);
    while (cells.length < COLS) cells.push(["", 1]);
    const made = cells.map(([chars, width]) => ({ getChars: () => chars, getWidth: () => width }) as IBufferCell);
    return { isWrapped: row.startsWith(">"), getCell: (x: number) => made[x] } as IBufferLine;
  });
  return { cols: COLS, lines: { getLine: (y) => lines[y] } };
}

test.each([
  ["its beginning", 3],
  ["its middle", 5],
  ["its end", 7],
])("a_word_is_selected_from_%s", (_where, at) => {
  expect(wordAt(grid("ls /var/x "), at, SEPARATORS)).toEqual({ from: 3, to: 9 });
});

test("a_word_ends_at_a_separator_and_where_nothing_is_written", () => {
  expect(wordAt(grid("say(hello)"), 5, SEPARATORS)).toEqual({ from: 4, to: 9 });
  expect(wordAt(grid("word", "next"), 2, SEPARATORS)).toEqual({ from: 0, to: 4 });
});

test("a_word_goes_on_over_the_ends_of_rows_of_one_line_only", () => {
  const whole = { from: 8, to: 23 };
  const wrapped = grid("cat aaa bb", ">bbbbbbbbbb", ">bbb and", "cccccccccc", "dddd");
  for (const at of [8, 15, 22]) expect(wordAt(wrapped, at, SEPARATORS)).toEqual(whole);
  expect(wordAt(wrapped, 35, SEPARATORS)).toEqual({ from: 30, to: 40 });
});

test("where_no_word_is_one_character_is_selected", () => {
  expect(wordAt(grid("a b"), 1, SEPARATORS)).toEqual({ from: 1, to: 2 });
  expect(wordAt(grid("a b"), 7, SEPARATORS)).toEqual({ from: 7, to: 8 });
  expect(wordAt(grid("a b"), 25, SEPARATORS)).toEqual({ from: 25, to: 26 });
});

test("a_wide_character_is_selected_whole", () => {
  const wide = grid("ab 漢字 c");
  expect([3, 4].map((at) => characterAt(wide, at))).toEqual([{ from: 3, to: 5 }, { from: 3, to: 5 }]);
  expect(wordAt(wide, 6, SEPARATORS)).toEqual({ from: 3, to: 7 });
});

test("a_selection_grows_either_way_from_its_word_over_rows", () => {
  const [text, word] = [grid("first line", "the middle", "last"), { from: 14, to: 20 }];
  expect(across(word, characterAt(text, 21))).toEqual({ from: 14, to: 22 });
  expect(across(word, characterAt(text, 2))).toEqual({ from: 2, to: 20 });
  // Back at the word nothing else is left.
  expect(across(word, characterAt(text, 16))).toEqual(word);
});
