// Owns a recording as the page knows it: an asciicast v2 that is read piece by piece while it comes, and searched.
// Knows neither network nor screen.

/** One event; `at` in seconds from the beginning. */
export interface CastEvent {
  at: number;
  /** `o` shown, `r` a new size, `m` a remark, `i` typed. */
  code: string;
  text: string;
}

/** A place where a text was found. */
export interface Hit {
  at: number;
  /** The line around it. */
  line: string;
}

/** Control sequences, strings and single escapes (ECMA-48 §5.4, §5.6), which no reader sees. */
const UNSEEN = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x09\x0b-\x1f\x7f]/g;

/** A line that seals carries this before its digits. */
const SEALED = "end ";

/** More hits are of no use to a person. */
const HITS = 200;

/** A recording, as far as it has come. */
export class Film {
  cols = 80;
  rows = 24;
  title = "";
  /** When it begins, in milliseconds since 1970; 0 if it does not say. */
  begins = 0;
  readonly events: CastEvent[] = [];
  /** Whether nothing will follow. */
  sealed = false;
  /** Bytes that have come. */
  bytes = 0;
  #decoder = new TextDecoder();
  #rest = "";
  #headed = false;

  /** When the last event happens. */
  get duration(): number {
    return this.events.at(-1)?.at ?? 0;
  }

  /** Takes the next bytes of the file; a line that is not whole waits. Throws on what is no asciicast v2. */
  feed(piece: Uint8Array): void {
    this.bytes += piece.byteLength;
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (this.#headed) this.#add(line);
      else this.#begin(line);
    }
  }

  /** How many events have happened at a moment. */
  countAt(seconds: number): number {
    let [low, high] = [0, this.events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.events[middle]?.at ?? 0) <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Finds a text in what was shown, letters of either case, in the order it was shown. */
  search(text: string): Hit[] {
    const wanted = text.toLowerCase();
    const hits: Hit[] = [];
    if (wanted === "") return hits;
    // Each line, with where in it each event began.
    let line = "";
    let marks: { from: number; at: number }[] = [];
    const look = () => {
      const found = line.toLowerCase().indexOf(wanted);
      // A line is there once its found part is.
      const end = found + wanted.length;
      if (found >= 0) hits.push({ at: marks.findLast(({ from }) => from < end)?.at ?? 0, line: line.trim() });
      [line, marks] = ["", []];
    };
    for (const { at, code, text: shown } of this.events) {
      if (hits.length >= HITS) break;
      if (code !== "o") continue;
      for (const [index, part] of shown.replace(UNSEEN, "").split("\n").entries()) {
        if (index > 0) look();
        marks.push({ from: line.length, at });
        line += part;
      }
    }
    look();
    return hits;
  }

  #begin(line: string): void {
    const header = JSON.parse(line) as Record<string, unknown>;
    if (header.version !== 2) throw new Error("This is no asciicast v2.");
    [this.cols, this.rows] = [Number(header.width) || 80, Number(header.height) || 24];
    this.title = typeof header.title === "string" ? header.title : "";
    this.begins = Number(header.timestamp ?? 0) * 1000;
    this.#headed = true;
  }

  #add(line: string): void {
    const event: unknown = JSON.parse(line);
    if (!Array.isArray(event) || typeof event[0] !== "number" || typeof event[2] !== "string") return;
    const [at, code, text] = event as [number, string, string];
    if (code === "h") this.sealed ||= text.startsWith(SEALED);
    else this.events.push({ at, code, text });
  }
}

/** A size as `80x24`, or `null`. */
export function sizeOf(text: string): { cols: number; rows: number } | null {
  const [, cols, rows] = /^(\d{1,4})x(\d{1,4})$/.exec(text) ?? [];
  return cols === undefined || rows === undefined ? null : { cols: Number(cols), rows: Number(rows) };
}
