// Owns the position of a replay: plays a film on a stage in its own time, and jumps by keyframes. Knows no network and
// no page; the clock is an argument.
import { sizeOf, type CastEvent, type Film } from "./cast";

/** A terminal that a film is played on. */
export interface Stage {
  /** Resolves once the text is parsed. */
  write(text: string): Promise<void>;
  resize(cols: number, rows: number): void;
  reset(): void;
  /** The screen and its scrollback as text that draws them again. */
  snapshot(): string;
}

/** The screen of a film after `count` events. */
interface Keyframe {
  count: number;
  cols: number;
  rows: number;
  screen: Blob;
}

/** Characters between two keyframes: what a terminal parses well within the time of a jump, and three times the size of
 *  one keyframe of an 80-column terminal. */
const KEYFRAME_EVERY = 256 * 1024;

/** Seconds that remain of a skipped pause, so that a viewer sees that there was one. */
const IDLE_LEFT = 0.5;

/** Failed tries in a row, from which on an index waits no more for what cannot be read. */
const MAX_INDEX_TRIES = 5;

/** Characters that are written at once, so that the page stays responsive in between. */
const CHUNK_BYTES = 128 * 1024;

/** Plays events on a stage. */
async function show(events: CastEvent[], stage: Stage) {
  let text = "";
  for (const event of events) {
    if (event.code === "o") text += event.text;
    const size = event.code === "r" ? sizeOf(event.text) : null;
    if (size === null && text.length < CHUNK_BYTES) continue;
    await stage.write(text);
    text = "";
    if (size !== null) stage.resize(size.cols, size.rows);
  }
  await stage.write(text);
}

/** Plays one film. */
export class Player {
  /** The moment shown, in seconds. */
  at = 0;
  playing = false;
  speed = 1;
  skipIdle = true;
  #film: Film;
  #stage: Stage;
  /** Events up to the moment shown, and how many are on the stage: fewer while some wait their turn, more if a jump
   *  back failed. */
  #count = 0;
  #drawn = 0;
  #keyframes: Keyframe[] = [];
  /** Tries to index in a row that met what cannot be read. */
  #failedTries = 0;
  /** The last drawing step: each step waits for the one before, and is dropped if a jump came after it. */
  #turn: Promise<void> = Promise.resolve();
  #jumps = 0;

  constructor(film: Film, stage: Stage) {
    this.#film = film;
    this.#stage = stage;
    stage.resize(film.cols, film.rows);
  }

  /** Number of keyframes. */
  get keyframes(): number {
    return this.#keyframes.length;
  }

  /** Whether the end of what has arrived is shown. */
  get atEnd(): boolean {
    return this.#count >= this.#film.count && this.at >= this.#film.duration;
  }

  /** Plays on for `seconds` of real time. Rejects if what is to be drawn cannot be read, as `jump` does. */
  async advance(seconds: number): Promise<void> {
    let at = Math.min(this.at + seconds * this.speed, this.#film.duration);
    const next = this.#film.timeOf(this.#film.countAt(at));
    if (this.skipIdle && next !== undefined && next - at > IDLE_LEFT) at = next - IDLE_LEFT;
    this.at = at;
    const count = this.#film.countAt(at);
    if (count <= this.#count) return;
    this.#count = count;
    await this.#inTurn(() => this.#draw(count));
  }

  /** Jumps to the moment `to`, in seconds. A later jump replaces one that still waits. */
  jump(to: number): Promise<void> {
    this.at = Math.max(0, Math.min(to, this.#film.duration));
    this.#jumps += 1;
    // Set at once, so that `advance()` continues from here meanwhile.
    const count = (this.#count = this.#film.countAt(this.at));
    return this.#inTurn(() => this.#jump(count));
  }

  /** Plays what has arrived on another stage, always the same one, and keeps a keyframe now and then. Resolves at the
   *  end of what is there. If some of it cannot be read, tries again after a `pause`, a few times, and the next call
   *  goes on from there; that it failed is not told, as without keyframes a jump only takes longer. */
  async index(stage: Stage, gone: () => boolean, pause: () => Promise<void>): Promise<void> {
    while (!gone()) {
      try {
        await this.#index(stage, gone);
        this.#failedTries = 0;
        return;
      } catch {
        this.#failedTries += 1;
        if (this.#failedTries >= MAX_INDEX_TRIES) return;
        await pause();
      }
    }
  }

  async #index(stage: Stage, gone: () => boolean): Promise<void> {
    const [film, last] = [this.#film, this.#keyframes.at(-1)];
    if (last === undefined) stage.resize(film.cols, film.rows);
    let { cols, rows, count: from } = last ?? { cols: film.cols, rows: film.rows, count: 0 };
    while (from < film.count && !gone()) {
      // Read before any of it is shown: the stage stays at its last keyframe if that fails.
      const piece: CastEvent[] = [];
      let length = 0;
      while (from + piece.length < film.count && length < KEYFRAME_EVERY) {
        for (const event of await film.read(from + piece.length, film.count)) {
          if (length >= KEYFRAME_EVERY) break;
          piece.push(event);
          length += event.text.length;
          const size = event.code === "r" ? sizeOf(event.text) : null;
          if (size !== null) ({ cols, rows } = size);
        }
      }
      // The last piece of a film that still grows is played again when it is longer.
      if (length < KEYFRAME_EVERY) return;
      await show(piece, stage);
      from += piece.length;
      this.#keyframes.push({ count: from, cols, rows, screen: new Blob([stage.snapshot()]) });
    }
  }

  #inTurn(draw: () => Promise<void>): Promise<void> {
    const jump = this.#jumps;
    const step = () => (jump === this.#jumps ? draw() : undefined);
    // Also after one that failed: what it drew is counted.
    return (this.#turn = this.#turn.then(step, step));
  }

  async #draw(count: number): Promise<void> {
    if (this.#drawn > count) return this.#jump(count);
    while (this.#drawn < count) {
      const events = await this.#film.read(this.#drawn, count);
      await show(events, this.#stage);
      this.#drawn += events.length;
    }
  }

  async #jump(count: number): Promise<void> {
    const keyframe = this.#keyframes.findLast((keyframe) => keyframe.count <= count);
    if (this.#drawn > count || (keyframe !== undefined && keyframe.count > this.#drawn)) {
      const { cols, rows } = keyframe ?? this.#film;
      const from = keyframe?.count ?? 0;
      // Read before the reset, as is what is drawn first: meanwhile an empty stage would be seen.
      const [screen] = await Promise.all([keyframe?.screen.text(), this.#film.read(from, count)]);
      this.#stage.reset();
      this.#stage.resize(cols, rows);
      await this.#stage.write(screen ?? "");
      this.#drawn = from;
    }
    await this.#draw(count);
  }
}
