// Tests that what a terminal sends by itself is not taken for typing, nor typing for it.
import { expect, test } from "vitest";
import { isAnswer, isReport, isTyped } from "./away";

const bytes = (text: string) => new TextEncoder().encode(text);

test.each([
  ["device attributes", "\x1b[?1;2c"],
  ["second device attributes", "\x1b[>0;276;0c"],
  ["the status", "\x1b[0n"],
  ["the cursor", "\x1b[24;80R"],
  ["the cursor, DEC's way", "\x1b[?24;80R"],
  ["a mode", "\x1b[4;2$y"],
  ["a mode of DEC's", "\x1b[?2026;2$y"],
  ["the window's size", "\x1b[8;24;80t"],
  ["a colour", "\x1b]11;rgb:1111/2222/3333\x1b\\"],
  ["a setting", '\x1bP1$r0"q\x1b\\'],
])("%s is an answer", (_what, text) => {
  expect([isAnswer(bytes(text)), isReport(bytes(text)), isTyped(bytes(text))]).toEqual([true, false, false]);
});

test.each(["\x1b[I", "\x1b[O"])("%j is a report, and nobody's", (text) => {
  expect([isReport(bytes(text)), isTyped(bytes(text))]).toEqual([true, false]);
});

test.each(["\x1b[<35;10;4M", "\x1b[<0;1;1m", "\x1b[M !!"])("%j is a report of what a person did", (text) => {
  expect([isReport(bytes(text)), isTyped(bytes(text))]).toEqual([true, true]);
});

test.each([
  ["letters", "c"],
  ["Escape", "\x1b"],
  ["an arrow", "\x1b[A"],
  ["an arrow with Ctrl", "\x1b[1;5C"],
  ["an arrow of a program", "\x1bOA"],
  ["Home", "\x1b[H"],
  ["F1", "\x1bOP"],
  ["F3", "\x1bOR"],
  ["F5", "\x1b[15~"],
  ["Shift+F1", "\x1b[1;2P"],
  ["Shift+Tab", "\x1b[Z"],
  ["Alt+C", "\x1bc"],
  ["Alt+]", "\x1b]"],
  ["Alt+P", "\x1bP"],
  ["a paste", "\x1b[200~0n\x1b[201~"],
  ["a long paste", `\x1b]${"0".repeat(8 * 1024)}\x1b\\`],
  ["an answer and a letter", "\x1b[0nc"],
])("%s is typed", (_what, text) => {
  expect([isAnswer(bytes(text)), isReport(bytes(text)), isTyped(bytes(text))]).toEqual([false, false, true]);
});
