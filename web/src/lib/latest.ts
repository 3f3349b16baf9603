// Owns the order of a question that is asked again and again: only the newest counts. Knows no clock and no network.

/** The answers to one question. */
export class Latest {
  #asked = 0;
  #settled = 0;

  /** Whether an answer that counts is still to come: a clock that asked again meanwhile would let no slow one count. */
  get underWay(): boolean {
    return this.#settled < this.#asked;
  }

  /** Asks, and hands on what comes of it, unless a newer question was asked meanwhile. */
  async ask<T>(question: () => Promise<T>, found: (answer: T) => void, failed: (error: unknown) => void): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    try {
      const answer = await question();
      if (mine === this.#asked) found(answer);
    } catch (error) {
      if (mine === this.#asked) failed(error);
    } finally {
      this.#settled = Math.max(this.#settled, mine);
    }
  }

  /** No answer under way counts any more. */
  drop(): void {
    this.#asked += 1;
    this.#settled = this.#asked;
  }
}
