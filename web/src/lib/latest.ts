// Owns the order of repeated requests: only the answer to the newest counts. Knows no clock and no network.

/** The answers to one request that is made repeatedly. */
export class Latest {
  #asked = 0;
  #settled = 0;

  /** Whether an answer that counts is under way; a timer that asked again meanwhile would make every slow answer
   *  stale. */
  get underWay(): boolean {
    return this.#settled < this.#asked;
  }

  /** Asks, and passes the result on, unless a newer request was made meanwhile. */
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

  /** Makes all answers under way stale. */
  drop(): void {
    this.#asked += 1;
    this.#settled = this.#asked;
  }
}
