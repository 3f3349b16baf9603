// Owns the input typed while there is no socket: bounded, readable, and distinguished from what a terminal sends by
// itself. Knows no socket: the caller takes the bytes and sends them.
import { linesOf } from "./paste";

/** Most bytes kept: room for a few commands typed blindly, not for a file. */
export const AWAY_BYTES = 4 * 1024;

/** The input that waits to be sent, as text to show. */
export interface Waiting {
  /** Control characters are shown as symbols. */
  text: string;
  lines: string[];
  /** Whether it could be sent now and waits only for the user's confirmation. */
  asked: boolean;
}

/** Longest sequence that a terminal sends by itself; longer input, a paste that begins alike, is not examined. */
const OWN_WORDS_BYTES = 4 * 1024;

function reads(bytes: Uint8Array, words: RegExp): boolean {
  const mayBe = bytes[0] === 0x1b && bytes.length <= OWN_WORDS_BYTES;
  return mayBe && words.test(new TextDecoder("latin1").decode(bytes));
}

// Focus in and out, and the mouse in its SGR and its older encoding: true when they are made, wrong later.
const REPORTS = /^(?:\x1b\[[IO]|\x1b\[<\d+;\d+;\d+[Mm]|\x1b\[M[^]{3})+$/;

/** Whether these bytes report the pointer or the focus, and so were not typed. */
export function isReport(bytes: Uint8Array): boolean {
  return reads(bytes, REPORTS);
}

// Device attributes, status, the cursor's place, modes, the window's size; colours and settings, as strings (ECMA-48 §8.3, xterm).
// F3 with a modifier looks like a cursor report for the first line and is taken for one: the key can be pressed again,
// while a stray answer would be typed into a shell.
const ANSWERS = /^\x1b(?:\[[?>]?[\d;]+(?:\$y|[Rcnt])|[\]P][^\u0000-\u001f\u007f]*\x1b\\)$/;

/** Whether these bytes are a terminal's answer to a query of the target, and so were not typed. */
export function isAnswer(bytes: Uint8Array): boolean {
  return reads(bytes, ANSWERS);
}

/** Whether a user typed these bytes or moved the mouse; by the gateway's own rules (`src/core/typing.rs`). */
export function isTyped(bytes: Uint8Array): boolean {
  return !isAnswer(bytes) && !reads(bytes, /^\x1b\[[IO]$/);
}

/** Replaces control characters by Unicode's pictures of them, and Enter and Backspace by the signs on their keys. */
function shown(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f]/g, (control) => {
    const code = control.charCodeAt(0);
    if (control === "\r" || control === "\n") return "⏎";
    return code === 0x7f ? "⌫" : String.fromCharCode(0x2400 + code);
  });
}

/** The bytes typed while disconnected, in order. */
export class Away {
  #bytes = new Uint8Array(0);

  /** Keeps `bytes`; false if there is no room for all of them. */
  push(bytes: Uint8Array): boolean {
    if (this.#bytes.length + bytes.length > AWAY_BYTES) return false;
    const longer = new Uint8Array(this.#bytes.length + bytes.length);
    longer.set(this.#bytes);
    longer.set(bytes, this.#bytes.length);
    this.#bytes = longer;
    return true;
  }

  /** Whether it holds more than one line, which is sent only once the user confirms. */
  get isLong(): boolean {
    return linesOf(new TextDecoder().decode(this.#bytes)).length > 1;
  }

  /** Returns the kept input as text; `null` if there is none. */
  waiting(asked: boolean): Waiting | null {
    if (this.#bytes.length === 0) return null;
    const text = new TextDecoder().decode(this.#bytes);
    return { text: shown(text), lines: linesOf(text).map(shown), asked };
  }

  /** Returns all kept bytes and forgets them. */
  take(): Uint8Array {
    const bytes = this.#bytes;
    this.#bytes = new Uint8Array(0);
    return bytes;
  }
}
