// Owns one xterm.js terminal: its addons, colours, and the guards between what a target sends and the page.
// Knows no socket and no session.
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon, type ISearchDecorationOptions } from "@xterm/addon-search";
import { UnicodeGraphemesAddon } from "@xterm/addon-unicode-graphemes";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal, type IDisposable } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { textOf } from "./buffer";
import { copySelection } from "./copy";
import { letterOf } from "./keys";
import { FONT_PIXELS, Letters } from "./letters.svelte";
import { Pan } from "./pan";
import { asksFirst, linesOf, plainPaste } from "./paste";
import { TouchSelection } from "./selection.svelte";
import { scrollBySwipes } from "./swipe";
import { plainTitle } from "./text";
import { DARK, DARK_SEARCH, FONT, LIGHT, LIGHT_SEARCH } from "./theme";

/** The events of a screen, for its owner. */
export interface ScreenEvents {
  /** Bytes for the target: keys, pastes, mouse reports, answers to its questions. */
  input(bytes: Uint8Array): void;
  resize(cols: number, rows: number): void;
  /** Plain text, safe to show. */
  title(title: string): void;
  /** The address under the pointer, or `null`. */
  link(uri: string | null): void;
  /** A paste of several lines that the target's shell would run one by one; `paste` goes on with it. */
  confirmPaste(lines: string[], paste: () => void): void;
  openSearch(): void;
  /** The user wants to reach the display of who has control. */
  openControl(): void;
  /** The user wants to leave the terminal for the bar above it. */
  leave(): void;
}

const SCROLLBACK_LINES = 10_000;
const isMac = /Mac|iP(hone|ad|od)/.test(navigator.userAgent);

/** The key to hold while clicking a link. */
export const LINK_KEY = isMac ? "⌘" : "Ctrl";
/** The key that leads from the terminal to the search in it. */
export const FIND_KEY = isMac ? "⌘F" : "Ctrl+Shift+F";

/** The key that leads from the terminal, which takes every other key, to the display of who has control. */
export const CONTROL_KEY = isMac ? "⌘G" : "Ctrl+Shift+G";

/** The key that leads out of the terminal, which takes the Tab key too: without it, leaving would need a mouse. */
export const LEAVE_KEY = isMac ? "⌘↑" : "Ctrl+Shift+↑";

/** Result of `hasFastWebgl()`, asked once, since asking takes one of the few contexts. */
let webglIsFast: boolean | undefined;

/** Whether WebGL runs on a graphics card: computed in software it is slower than the DOM renderer. */
function hasFastWebgl(): boolean {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (gl === null) return false;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const renderer = String(gl.getParameter(info?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(renderer);
}

/** A terminal inside `host`, which must be laid out. */
export class Screen {
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  readonly selection: TouchSelection;
  readonly letters: Letters;
  /** Resolves when the grid has the size it will keep: the renderers differ in the width of a cell. */
  readonly ready: Promise<void>;
  /** Whether several lines are pasted without asking. */
  pastesFreely = false;
  /** The grid's size where another page sets it. */
  #given: { cols: number; rows: number } | null = null;
  #pan: Pan;
  #light = matchMedia("(prefers-color-scheme: light)");
  #searching = false;
  #host: HTMLElement;
  #events: ScreenEvents;
  #fit = new FitAddon();
  #webgl: IDisposable | null = null;
  #disposed = false;
  #undo: (() => void)[] = [];

  constructor(host: HTMLElement, events: ScreenEvents) {
    this.#host = host;
    this.#events = events;
    this.terminal = new Terminal({
      allowProposedApi: true, // the unicode and search addons need it
      cursorBlink: true,
      fontFamily: FONT,
      fontSize: FONT_PIXELS,
      lineHeight: 1.15,
      scrollback: SCROLLBACK_LINES,
      // xterm.js itself refuses all but http and https in OSC 8 links.
      linkHandler: {
        activate: (event, uri) => this.#openLink(event, uri),
        hover: (_event, uri) => events.link(plainTitle(uri)),
        leave: () => events.link(null),
      },
    });
    this.letters = new Letters(this.terminal, this.#fit);
    this.#pan = new Pan(host, this.terminal);
    this.#recolour();
    this.#listen(this.#light, "change", () => this.#recolour());
    this.#loadAddons();
    this.#guard();
    this.#wire();
    this.terminal.open(host);
    this.selection = new TouchSelection(host, this.terminal);
    this.#undo.push(() => this.selection.dispose(), scrollBySwipes(host, this.terminal));
    const hint = `${LEAVE_KEY} moves the focus out of the terminal. Under Account you can have it read aloud.`;
    this.terminal.textarea?.setAttribute("aria-description", hint);
    const observer = new ResizeObserver(() => this.fit());
    observer.observe(host);
    this.#undo.push(() => observer.disconnect());
    this.ready = this.#loadWebgl();
  }

  /** Gives the selection the colours of a current match, or its own again; returns the colours of all matches. */
  colourSearch(searching: boolean): ISearchDecorationOptions {
    this.#searching = searching;
    this.#recolour();
    return (this.#light.matches ? LIGHT_SEARCH : DARK_SEARCH).matches;
  }

  #recolour(): void {
    const [options, search] = this.#light.matches ? [LIGHT, LIGHT_SEARCH] : [DARK, DARK_SEARCH];
    const theme = this.#searching ? { ...options.theme, ...search.current } : options.theme;
    Object.assign(this.terminal.options, { ...options, theme });
  }

  /** Makes the grid fill its host, or fits one of a given size into it; does nothing while the host has no size. */
  fit(): void {
    if (this.#host.clientWidth === 0 || this.#host.clientHeight === 0) return;
    if (this.#given === null) return this.#fit.fit();
    const { cols, rows } = this.#given;
    this.letters.fit(cols, rows);
    this.terminal.resize(cols, rows);
    this.#pan.follow();
  }

  /** Gives the grid the size of the page with control, whatever room there is, and turns input off. */
  give(cols: number, rows: number): void {
    this.#given = { cols, rows };
    this.terminal.element?.classList.add("given");
    this.terminal.options.disableStdin = true;
    this.fit();
  }

  /** Lets the grid fill its host again and turns input on: this page has control. */
  own(): void {
    if (this.#given === null) return;
    this.#given = null;
    this.terminal.element?.classList.remove("given");
    this.terminal.options.disableStdin = false;
    this.letters.reset();
    this.fit();
  }

  /** Focuses this terminal, which came to the front. */
  show(): void {
    if (this.#webgl === null) void this.#loadWebgl();
    this.terminal.focus();
  }

  /** Returns how far down the line is that the user looks at, 0 to 1: that of the match while they search, else the
   *  cursor's; `null` if it is out of sight. */
  get lookedAt(): number | null {
    const { buffer, rows } = this.terminal;
    const { baseY, cursorY, viewportY } = buffer.active;
    const match = this.#searching ? this.terminal.getSelectionPosition()?.start.y : undefined;
    const row = (match ?? baseY + cursorY) - viewportY;
    return row < 0 || row >= rows ? null : row / rows;
  }

  /** Returns everything in the buffer as text, wrapped lines joined. */
  text(): string {
    return textOf(this.terminal);
  }

  /** Offers what is shown to a screen reader, or no longer. */
  read(aloud: boolean): void {
    this.terminal.options.screenReaderMode = aloud;
  }

  dispose(): void {
    for (const undo of this.#undo) undo();
    this.#disposed = true;
    this.terminal.dispose();
  }

  #loadAddons(): void {
    this.terminal.loadAddon(this.#fit);
    this.terminal.loadAddon(this.search);
    this.terminal.loadAddon(new UnicodeGraphemesAddon());
    this.terminal.loadAddon(
      new WebLinksAddon((event, uri) => this.#openLink(event, uri), {
        hover: (_event, uri) => this.#events.link(plainTitle(uri)),
        leave: () => this.#events.link(null),
      }),
    );
  }

  /**
   * Loads WebGL, which is fetched separately and may be missing or lost at any time: browsers allow some sixteen
   * contexts, and take the oldest away. The DOM renderer then does the same, slower, until this terminal is in front
   * again.
   */
  async #loadWebgl(): Promise<void> {
    try {
      webglIsFast ??= hasFastWebgl();
      if (!webglIsFast) return;
      const { WebglAddon } = await import("@xterm/addon-webgl");
      if (this.#disposed || this.#webgl !== null) return;
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => {
        webgl.dispose();
        this.#webgl = null;
        // The cells of the DOM renderer have another width.
        if (!this.#disposed) this.fit();
      });
      this.terminal.loadAddon(webgl);
      this.#webgl = webgl;
    } catch {
      this.#webgl = null;
    } finally {
      if (!this.#disposed) this.fit();
    }
  }

  #guard(): void {
    // No clipboard access for the target: xterm.js has none without an addon, and this keeps it so.
    this.terminal.parser.registerOscHandler(52, () => true);
    this.#listen(this.#host, "paste", (event) => this.#pasted(event as ClipboardEvent), true);
  }

  #wire(): void {
    const { terminal } = this;
    const encoder = new TextEncoder();
    terminal.onData((text) => this.#events.input(encoder.encode(text)));
    terminal.onBinary((text) => this.#events.input(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    terminal.onResize(({ cols, rows }) => this.#events.resize(cols, rows));
    terminal.onRender(() => this.#given !== null && this.#pan.follow());
    this.#listen(this.#host, "scroll", () => this.#pan.scrolled());
    terminal.onTitleChange((title) => this.#events.title(plainTitle(title)));
    terminal.attachCustomKeyEventHandler((event) => this.#takesKey(event));
  }

  /** Handles the page's own shortcuts; returns false to keep a key from xterm.js. */
  #takesKey(event: KeyboardEvent): boolean {
    const shortcut = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && event.shiftKey;
    if (!shortcut || event.altKey || event.type !== "keydown") return true;
    switch (letterOf(event)) {
      case "F":
        event.preventDefault();
        this.#events.openSearch();
        return false;
      case "G":
        event.preventDefault();
        this.#events.openControl();
        return false;
      case "ArrowUp":
        event.preventDefault();
        this.#events.leave();
        return false;
      case "C":
        if (isMac && !this.terminal.hasSelection()) return true;
        event.preventDefault();
        void copySelection(this.terminal);
        return false;
      case "V":
        // The browser turns this key into a paste event.
        return false;
      default:
        return true;
    }
  }

  #pasted(event: ClipboardEvent): void {
    event.preventDefault();
    event.stopPropagation();
    this.paste(event.clipboardData?.getData("text/plain") ?? "");
  }

  /** Pastes a text from the clipboard, if need be once the user has confirmed it. */
  paste(pasted: string): void {
    const text = plainPaste(pasted);
    // Where input is off there is nothing to confirm.
    if (text === "" || this.terminal.options.disableStdin === true) return;
    const paste = () => this.terminal.paste(text);
    if (this.pastesFreely || !asksFirst(text, this.terminal.modes.bracketedPasteMode)) return paste();
    this.#events.confirmPaste(linesOf(text), paste);
  }

  #openLink(event: MouseEvent, uri: string): void {
    const held = isMac ? event.metaKey : event.ctrlKey;
    if (held && /^https?:\/\//i.test(uri)) window.open(uri, "_blank", "noopener,noreferrer");
  }

  #listen(target: EventTarget, type: string, listener: (event: Event) => void, capture = false): void {
    target.addEventListener(type, listener, capture);
    this.#undo.push(() => target.removeEventListener(type, listener, capture));
  }
}
