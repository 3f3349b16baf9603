// Owns the xterm.js terminal that a recording is played on: nobody types into it, and what it shows may touch nothing
// but itself. Knows no film.
import { SerializeAddon } from "@xterm/addon-serialize";
import { UnicodeGraphemesAddon } from "@xterm/addon-unicode-graphemes";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import type { Stage } from "./player";
import { DARK, FONT, LIGHT } from "./theme";

/** Lines above the screen that a jump brings back. */
const SCROLLBACK_LINES = 1_000;

/** A terminal to look at; without a host it only thinks. */
export class XtermStage implements Stage {
  readonly terminal: Terminal;
  #serialize = new SerializeAddon();

  constructor(host?: HTMLElement) {
    this.terminal = new Terminal({
      allowProposedApi: true, // the unicode addon needs it
      disableStdin: true,
      cursorBlink: false,
      fontFamily: FONT,
      fontSize: 14,
      lineHeight: 1.15,
      scrollback: SCROLLBACK_LINES,
      linkHandler: { activate: () => undefined },
      ...(matchMedia("(prefers-color-scheme: light)").matches ? LIGHT : DARK),
    });
    this.terminal.loadAddon(new UnicodeGraphemesAddon());
    this.terminal.loadAddon(this.#serialize);
    this.terminal.parser.registerOscHandler(52, () => true);
    if (host !== undefined) this.terminal.open(host);
  }

  write(text: string): Promise<void> {
    return text === "" ? Promise.resolve() : new Promise((parsed) => this.terminal.write(text, parsed));
  }

  resize(cols: number, rows: number): void {
    if (cols > 0 && rows > 0) this.terminal.resize(Math.min(cols, 1_000), Math.min(rows, 1_000));
  }

  reset(): void {
    this.terminal.reset();
  }

  snapshot(): string {
    return this.#serialize.serialize({ scrollback: SCROLLBACK_LINES });
  }

  /** Everything in the buffer as text, wrapped lines joined. */
  text(): string {
    const buffer = this.terminal.buffer.active;
    let text = "";
    for (let row = 0; row < buffer.length; row += 1) {
      const line = buffer.getLine(row);
      if (line === undefined) continue;
      text += (row > 0 && !line.isWrapped ? "\n" : "") + line.translateToString(true);
    }
    return text.trimEnd();
  }

  dispose(): void {
    this.terminal.dispose();
  }
}
