// Owns fetching a recording: piece by piece, resumed where it was interrupted, and no further than it can be read.
// Knows no screen and no clock: its owner decides when to ask again.
import * as api from "./api";
import { Film } from "./cast";

/** Interrupted answers in a row, none with a byte, from which on the recording and not the network is taken to be at
 *  fault. */
const MAX_BARREN_ANSWERS = 5;

/** One recording, as far as it was fetched. */
export class RecordingLoader {
  readonly film = new Film();
  #id: string;
  /** Answers in a row that were interrupted before their first byte. */
  #barren = 0;

  constructor(id: string) {
    this.#id = id;
  }

  /** Whether the rest cannot be read, however often it is asked for. */
  get isTorn(): boolean {
    return this.#barren >= MAX_BARREN_ANSWERS;
  }

  /** Whether nothing more will come. */
  get isOver(): boolean {
    return this.film.sealed || this.isTorn;
  }

  /** Fetches what there is now, calling `grown` after each piece; rejects as `api.recording` does, and keeps what
   *  arrived. */
  async fetch(signal: AbortSignal, grown: () => void): Promise<void> {
    const { bytes } = this.film;
    try {
      for await (const piece of api.recording(this.#id, bytes, signal)) {
        this.film.feed(piece);
        grown();
      }
      this.#barren = 0;
    } catch (error) {
      if (this.film.bytes > bytes) this.#barren = 0;
      else if (error instanceof api.BrokeOff) this.#barren += 1;
      throw error;
    }
  }
}
