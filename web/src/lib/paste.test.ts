// Tests which part of a paste reaches a terminal, and when the user is asked first.
import { describe, expect, test } from "vitest";
import { asksFirst, linesOf, plainPaste } from "./paste";

describe("a paste", () => {
  test("cannot_end_its_own_brackets", () => {
    expect(plainPaste("echo a\x1b[201~\nrm -rf /\u009b201~\x00\x7f\t!")).toBe("echo a[201~\nrm -rf /201~\t!");
  });

  test("keeps_every_other_character", () => {
    const text = "für 😀\r\n\tif x:\n";
    expect(plainPaste(text)).toBe(text);
  });

  test.each([
    ["ls", false],
    ["ls\n", false],
    ["ls\r\nid", true],
    ["a\rb", true],
    ["a\n\nb\n", true],
  ])("%j into a plain prompt asks first: %s", (text, asks) => {
    expect([asksFirst(text, false), asksFirst(text, true)]).toEqual([asks, false]);
  });

  test("is_shown_line_by_line", () => {
    expect(linesOf("a\r\nb\rc\n\n")).toEqual(["a", "b", "c"]);
  });
});
