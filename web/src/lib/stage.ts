// Owns the xterm.js terminal that a recording is played on: it takes no input, and its content cannot affect anything
// else. Knows no film.
import { FitAddon } from "@xterm/addon-fit";
import { SerializeAddon } from "@xterm/addon-serialize";
import { UnicodeGraphemesAddon } from "@xterm/addon-unicode-graphemes";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { textOf } from "./buffer";
import { FONT_PIXELS, Letters } from "./letters.svelte";
import type { Stage } from "./player";
import { TouchSelection } from "./selection.svelte";
import { scrollBySwipes } from "./swipe";
import { DARK, FONT, LIGHT } from "./theme";

/** Lines above the screen that a jump brings back. */
const SCROLLBACK_LINES = 1_000;

/** A terminal without input; without a host it is not displayed either. */
export class XtermStage implements Stage {
  readonly terminal: Terminal;
  /** `null` without a host. */
  readonly selection: TouchSelection | null = null;
  #serialize = new SerializeAddon();
  readonly letters: Letters;
  #fit = new FitAddon();
  #host: HTMLElement | undefined;
  #unswipe = () => {};
  #observer = new ResizeObserver(() => this.#fitHost());

  constructor(host?: HTMLElement) {
    this.terminal = new Terminal({
      allowProposedApi: true, // the unicode addon needs it
      disableStdin: true,
      cursorBlink: false,
      fontFamily: FONT,
      fontSize: FONT_PIXELS,
      lineHeight: 1.15,
      scrollback: SCROLLBACK_LINES,
      linkHandler: { activate: () => undefined },
      ...(matchMedia("(prefers-color-scheme: light)").matches ? LIGHT : DARK),
    });
    this.letters = new Letters(this.terminal, this.#fit);
    this.terminal.loadAddon(new UnicodeGraphemesAddon());
    this.terminal.loadAddon(this.#serialize);
    this.terminal.parser.registerOscHandler(52, () => true);
    this.#host = host;
    if (host === undefined) return;
    this.terminal.loadAddon(this.#fit);
    this.terminal.open(host);
    this.selection = new TouchSelection(host, this.terminal);
    this.#unswipe = scrollBySwipes(host, this.terminal);
    this.#observer.observe(host);
  }

  write(text: string): Promise<void> {
    return text === "" ? Promise.resolve() : new Promise((parsed) => this.terminal.write(text, parsed));
  }

  resize(cols: number, rows: number): void {
    if (cols <= 0 || rows <= 0) return;
    const before = [this.terminal.cols, this.terminal.rows].join();
    this.terminal.resize(Math.min(cols, 1_000), Math.min(rows, 1_000));
    // Only if the size changed: measuring the font takes time that a jump does not have.
    if ([this.terminal.cols, this.terminal.rows].join() !== before) this.#fitHost();
  }

  reset(): void {
    this.terminal.reset();
  }

  snapshot(): string {
    return this.#serialize.serialize({ scrollback: SCROLLBACK_LINES });
  }

  /** Returns everything in the buffer as text, wrapped lines joined. */
  text(): string {
    return textOf(this.terminal);
  }

  /** Offers what is shown to a screen reader, or no longer. */
  read(aloud: boolean): void {
    this.terminal.options.screenReaderMode = aloud;
  }

  /** Fits the whole grid into the host: it was recorded in a window of another size, without bars above. */
  #fitHost(): void {
    if (this.#host === undefined || this.#host.clientWidth === 0 || this.#host.clientHeight === 0) return;
    this.letters.fit(this.terminal.cols, this.terminal.rows);
  }

  dispose(): void {
    this.#observer.disconnect();
    this.#unswipe();
    this.selection?.dispose();
    this.terminal.dispose();
  }
}
