// Owns runs of a terminal's cells in reading order, as one selects them: a word, and all from one place to another.
import type { IBuffer, IBufferCell } from "@xterm/xterm";

/** A run of cells, counted from the buffer's first cell on, row by row; `to` is the cell after its last. */
export interface Span {
  from: number;
  to: number;
}

/** The lines of a buffer with `cols` cells each. */
export interface Grid {
  lines: Pick<IBuffer, "getLine">;
  cols: number;
}

function cell({ lines, cols }: Grid, at: number): IBufferCell | undefined {
  return lines.getLine(Math.floor(at / cols))?.getCell(at % cols);
}

/** Returns what one character takes at this cell, of which it may be the second. */
export function characterAt(grid: Grid, at: number): Span {
  const from = cell(grid, at)?.getWidth() === 0 ? Math.max(0, at - 1) : at;
  return { from, to: from + Math.max(1, cell(grid, from)?.getWidth() ?? 1) };
}

/** Returns the word at this cell, over the ends of rows where its line is wrapped; where there is none, the one
 *  character. */
export function wordAt(grid: Grid, at: number, separators: string): Span {
  const isPart = (place: number) => {
    const here = cell(grid, place);
    const chars = here?.getChars() ?? "";
    return here?.getWidth() === 0 || (chars !== "" && !separators.includes(chars));
  };
  /** Whether this cell is in one line with the one before. */
  const goesOn = (place: number) => place % grid.cols !== 0 || grid.lines.getLine(place / grid.cols)?.isWrapped === true;
  let { from, to } = characterAt(grid, at);
  if (!isPart(from)) return { from, to };
  while (goesOn(from) && isPart(from - 1)) from -= 1;
  while (goesOn(to) && isPart(to)) to += 1;
  return { from, to };
}

/** Returns a span that is so many cells further on. */
export function moved({ from, to }: Span, way: number): Span {
  return { from: from + way, to: to + way };
}

/** Returns all from one span to another, whichever comes first. */
export function across(one: Span, other: Span): Span {
  return { from: Math.min(one.from, other.from), to: Math.max(one.to, other.to) };
}
