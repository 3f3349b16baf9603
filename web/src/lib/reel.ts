// Owns how a recording comes: piece by piece, again from where it broke off, and no further than it can be read.
// Knows no screen and no clock: when to ask again is its owner's affair.
import * as api from "./api";
import { Film } from "./cast";

/** So many answers in a row that break off without a byte are no accident of the network. */
const BARREN = 5;

/** One recording and how far it has come. */
export class Reel {
  readonly film = new Film();
  #id: string;
  /** Answers in a row that broke off without a byte. */
  #barren = 0;

  constructor(id: string) {
    this.#id = id;
  }

  /** Whether what follows cannot be read, however often it is asked for. */
  get isTorn(): boolean {
    return this.#barren >= BARREN;
  }

  /** Whether nothing more will come. */
  get isOver(): boolean {
    return this.film.sealed || this.isTorn;
  }

  /** Fetches what there is now, and calls `grown` after each piece; rejects as `api.recording` does, and keeps what came. */
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
