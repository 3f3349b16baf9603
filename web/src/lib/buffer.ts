// Owns reading a terminal's buffer as text. Does not know what writes to it.
import type { Terminal } from "@xterm/xterm";

/** Returns everything in the buffer as text, wrapped lines joined. */
export function textOf(terminal: Terminal): string {
  const buffer = terminal.buffer.active;
  let text = "";
  for (let row = 0; row < buffer.length; row += 1) {
    const line = buffer.getLine(row);
    if (line === undefined) continue;
    text += (row > 0 && !line.isWrapped ? "\n" : "") + line.translateToString(true);
  }
  return text.trimEnd();
}
