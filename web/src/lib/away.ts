// Owns what a person types while no socket is there: bounded, readable, and told apart from what a terminal says by
// itself. Knows no socket: whoever has one takes the bytes.
import { linesOf } from "./paste";

/** So much is kept: a few commands typed blindly, never a file. */
export const AWAY_BYTES = 4 * 1024;

/** What waits to be sent, for people to read. */
export interface Waiting {
  /** Control characters are shown as symbols. */
  text: string;
  lines: string[];
  /** Whether it can go now, and only the person's word is missing. */
  asked: boolean;
}

/** Nothing that a terminal says by itself is longer; a paste, which may begin alike, is not read for it. */
const OWN_WORDS_BYTES = 4 * 1024;

function reads(bytes: Uint8Array, words: RegExp): boolean {
  const mayBe = bytes[0] === 0x1b && bytes.length <= OWN_WORDS_BYTES;
  return mayBe && words.test(new TextDecoder("latin1").decode(bytes));
}

// Focus in and out, and the mouse in its SGR and its older encoding: true at their moment, wrong later.
const REPORTS = /^(?:\x1b\[[IO]|\x1b\[<\d+;\d+;\d+[Mm]|\x1b\[M[^]{3})+$/;

/** Whether these bytes tell of the pointer or the focus, so that nobody typed them. */
export function isReport(bytes: Uint8Array): boolean {
  return reads(bytes, REPORTS);
}

// Device attributes, status, the cursor's place, modes, the window's size; colours and settings, as strings (ECMA-48 §8.3, xterm).
// F3 with a modifier reads as a cursor in the first line: it can be pressed again, while a stray answer is typed into a shell.
const ANSWERS = /^\x1b(?:\[[?>]?[\d;]+(?:\$y|[Rcnt])|[\]P][^\u0000-\u001f\u007f]*\x1b\\)$/;

/** Whether these bytes are what a terminal answers to its target, so that nobody typed them. */
export function isAnswer(bytes: Uint8Array): boolean {
  return reads(bytes, ANSWERS);
}

/** Whether a person is there who typed these bytes, or moved the mouse; judged as the gateway does (`src/core/typing.rs`). */
export function isTyped(bytes: Uint8Array): boolean {
  return !isAnswer(bytes) && !reads(bytes, /^\x1b\[[IO]$/);
}

/** Control characters as Unicode's pictures of them, and the keys that people know by their signs. */
function shown(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f]/g, (control) => {
    const code = control.charCodeAt(0);
    if (control === "\r" || control === "\n") return "⏎";
    return code === 0x7f ? "⌫" : String.fromCharCode(0x2400 + code);
  });
}

/** The bytes typed while away, in order. */
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

  /** Whether it holds more than one line, so that it is sent only if the person still wants it. */
  get isLong(): boolean {
    return linesOf(new TextDecoder().decode(this.#bytes)).length > 1;
  }

  /** What is kept, to read; `null` for nothing. */
  waiting(asked: boolean): Waiting | null {
    if (this.#bytes.length === 0) return null;
    const text = new TextDecoder().decode(this.#bytes);
    return { text: shown(text), lines: linesOf(text).map(shown), asked };
  }

  /** Hands out everything, once. */
  take(): Uint8Array {
    const bytes = this.#bytes;
    this.#bytes = new Uint8Array(0);
    return bytes;
  }
}
