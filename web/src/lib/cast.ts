// Owns a recording as the page knows it: an asciicast v2 that is parsed piece by piece as it arrives, and searched.
// Of what is long past it keeps the lines in blobs, which the browser puts on the disk if they are many. Knows neither
// network nor screen.

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

/** Control sequences, strings and single escapes (ECMA-48 §5.4, §5.6), which are not visible text. */
const UNSEEN = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x09\x0b-\x1f\x7f]/g;

/** Prefix of the digits in the hash event that seals a recording. */
const SEALED = "end ";

/** Most hits returned; more are of no use to a reader. */
const HITS = 200;

/** Characters of lines that are kept together: what is read again within a few milliseconds. */
const REEL_CHARS = 1024 * 1024;

/** Reels that stay parsed: those where it is played, indexed and searched. */
const PARSED_REELS = 3;

/** Events that follow each other, as lines of the file. */
interface Reel {
  /** Count of the events before. */
  first: number;
  lines: Blob;
}

/** A recording, as far as it has arrived. */
export class Film {
  cols = 80;
  rows = 24;
  title = "";
  /** Start of the recording, in milliseconds since 1970; 0 if its header gives none. */
  begins = 0;
  /** Whether the recording is sealed, so that nothing will follow. */
  sealed = false;
  /** Bytes received so far. */
  bytes = 0;
  /** Time of the first event that shows something; 0 without one. */
  opening = 0;
  #opened = false;
  /** The time of each event. */
  #times: number[] = [];
  #reels: Reel[] = [];
  /** The reels that were read last, the newest last. */
  #parsed = new Map<Reel, Promise<CastEvent[]>>();
  /** The events after the last reel, with their lines. */
  #open: CastEvent[] = [];
  #lines: string[] = [];
  #chars = 0;
  #decoder = new TextDecoder();
  #rest = "";
  #headed = false;

  /** Time of the last event, in seconds from the beginning; 0 without events. */
  get duration(): number {
    return this.#times.at(-1) ?? 0;
  }

  /** Number of events. */
  get count(): number {
    return this.#times.length;
  }

  /** Returns the time of the event after `count` others, if there is one. */
  timeOf(count: number): number | undefined {
    return this.#times[count];
  }

  /** Returns the events from one on, before another one, as far as they are kept together; empty only if there are
   *  none. */
  async read(from: number, to: number): Promise<CastEvent[]> {
    const first = this.count - this.#open.length;
    if (from >= first) return this.#open.slice(from - first, to - first);
    const reel = this.#reels.findLast(({ first }) => first <= from);
    return reel === undefined ? [] : (await this.#parse(reel)).slice(from - reel.first, to - reel.first);
  }

  /** Parses the next bytes of the file and keeps an incomplete line for later. Throws if it is not asciicast v2. */
  feed(piece: Uint8Array): void {
    this.bytes += piece.byteLength;
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (this.#headed) this.#add(line);
      else this.#begin(line);
    }
  }

  /** Returns the number of events up to `seconds`. */
  countAt(seconds: number): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#times[middle] ?? 0) <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Finds a text in the output, ignoring case; returns the hits in the order of the output. */
  async search(text: string): Promise<Hit[]> {
    const wanted = text.toLowerCase();
    const hits: Hit[] = [];
    if (wanted === "") return hits;
    // The current line, and the offset in it at which each event began.
    let line = "";
    let marks: { from: number; at: number }[] = [];
    const look = () => {
      const found = line.toLowerCase().indexOf(wanted);
      // The time of a hit is that of the event which completed the found text.
      const end = found + wanted.length;
      if (found >= 0) hits.push({ at: marks.findLast(({ from }) => from < end)?.at ?? 0, line: line.trim() });
      [line, marks] = ["", []];
    };
    for (let [count, end] = [0, this.count]; count < end && hits.length < HITS; ) {
      const events = await this.read(count, end);
      count += events.length;
      for (const { at, code, text: shown } of events) {
        if (hits.length >= HITS) break;
        if (code !== "o") continue;
        for (const [index, part] of shown.replace(UNSEEN, "").split("\n").entries()) {
          if (index > 0) look();
          marks.push({ from: line.length, at });
          line += part;
        }
      }
    }
    look();
    return hits;
  }

  #begin(line: string): void {
    const header = JSON.parse(line) as Record<string, unknown>;
    if (header.version !== 2) throw new Error("This is not an asciicast v2.");
    [this.cols, this.rows] = [Number(header.width) || 80, Number(header.height) || 24];
    this.title = typeof header.title === "string" ? header.title : "";
    this.begins = Number(header.timestamp ?? 0) * 1000;
    this.#headed = true;
  }

  #add(line: string): void {
    const event = eventOf(line);
    if (event === null) return;
    const { at, code, text } = event;
    if (code === "h") {
      this.sealed ||= text.startsWith(SEALED);
      return;
    }
    if (!this.#opened && code === "o" && text.replace(UNSEEN, "").trim() !== "") [this.#opened, this.opening] = [true, at];
    this.#times.push(at);
    this.#open.push(event);
    this.#lines.push(line);
    this.#chars += line.length;
    if (this.#chars >= REEL_CHARS) this.#close();
  }

  /** Makes a reel of the open events. */
  #close(): void {
    this.#reels.push({ first: this.count - this.#open.length, lines: new Blob([this.#lines.join("\n")]) });
    [this.#open, this.#lines, this.#chars] = [[], [], 0];
  }

  #parse(reel: Reel): Promise<CastEvent[]> {
    const read = () => reel.lines.text().then((text) => text.split("\n").flatMap((line) => eventOf(line) ?? []));
    const kept = this.#parsed.get(reel);
    const parsed = kept ?? read();
    // One that could not be read is read again when it is asked for again.
    if (kept === undefined) parsed.catch(() => this.#parsed.delete(reel));
    this.#parsed.delete(reel);
    this.#parsed.set(reel, parsed);
    const [oldest] = this.#parsed.keys();
    if (oldest !== undefined && this.#parsed.size > PARSED_REELS) this.#parsed.delete(oldest);
    return parsed;
  }
}

/** Parses a line of the file; returns `null` if it is no event. */
function eventOf(line: string): CastEvent | null {
  const event: unknown = JSON.parse(line);
  if (!Array.isArray(event) || typeof event[0] !== "number" || typeof event[2] !== "string") return null;
  const [at, code, text] = event as [number, string, string];
  return { at, code, text };
}

/** Parses a size such as `80x24`; returns `null` for anything else. */
export function sizeOf(text: string): { cols: number; rows: number } | null {
  const [, cols, rows] = /^(\d{1,4})x(\d{1,4})$/.exec(text) ?? [];
  return cols === undefined || rows === undefined ? null : { cols: Number(cols), rows: Number(rows) };
}
