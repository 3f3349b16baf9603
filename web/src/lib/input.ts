// Owns the bytes typed but not yet taken by the gateway, and their offsets. Knows no socket: it hands out frames.

/** The largest input frame, in bytes: small enough that a keystroke behind a paste waits little. */
export const FRAME_BYTES = 16 * 1024;

/** Most bytes in flight without an acknowledgement. */
export const UNACKNOWLEDGED_BYTES = 64 * 1024;

/**
 * Most bytes queued: a paste lies in the page's memory anyway, and no more of it leaves than may be unacknowledged. A
 * paste beyond it is refused whole, since half a paste is worse than none.
 */
export const QUEUE_BYTES = 128 * 1024 * 1024;

/**
 * A queue of input in three parts: taken (forgotten), sent, waiting. Offsets count from the session's start.
 *
 * ```text
 *        taken          sent            end
 * ─ gone ─┼── in flight ──┼── waiting ──┤
 * ```
 */
export class InputBuffer {
  #chunks: Uint8Array[] = [];
  #inFlight = 0;
  #length = 0;
  #taken = 0;
  #sent: number | null = null;

  /** Offset up to which input was sent; `null` until the gateway has said where input starts. */
  get sent(): number | null {
    return this.#sent;
  }

  /** Number of bytes that the gateway has not taken yet. */
  get pending(): number {
    return this.#length;
  }

  /** Queues `bytes`; returns false if the queue has no room for all of them. */
  push(bytes: Uint8Array): boolean {
    if (this.#length + bytes.length > QUEUE_BYTES) return false;
    for (let start = 0; start < bytes.length; start += FRAME_BYTES) {
      this.#chunks.push(bytes.subarray(start, start + FRAME_BYTES));
    }
    this.#length += bytes.length;
    return true;
  }

  /** The next frame to send now, or `null` when nothing waits or too much is unacknowledged. */
  next(): Uint8Array | null {
    const chunk = this.#chunks[this.#inFlight];
    if (chunk === undefined || this.#sent === null) return null;
    if (this.#sent + chunk.length - this.#taken > UNACKNOWLEDGED_BYTES) return null;
    this.#inFlight += 1;
    this.#sent += chunk.length;
    return chunk;
  }

  /** Forgets input up to `offset`, which the gateway has taken. */
  take(offset: number): void {
    let surplus = Math.min(offset, this.#sent ?? 0) - this.#taken;
    while (surplus > 0) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) return;
      const dropped = Math.min(surplus, chunk.length);
      if (dropped === chunk.length) {
        this.#chunks.shift();
        this.#inFlight -= 1;
      } else {
        this.#chunks[0] = chunk.subarray(dropped);
      }
      this.#taken += dropped;
      this.#length -= dropped;
      surplus -= dropped;
    }
  }

  /**
   * Forgets all input, since another page has control or had it meanwhile: the gateway has taken what lies before
   * `offset` and will never take the rest. Returns the length of that rest.
   */
  forget(offset: number): number {
    this.take(offset);
    const rest = this.#length;
    this.#chunks = [];
    this.#inFlight = this.#length = 0;
    this.#taken = this.#sent = offset;
    return rest;
  }

  /**
   * Continues on a new socket: forgets input up to `offset`, which the gateway has taken, and hands out the rest again.
   * An offset beyond what was sent means that another page typed meanwhile; what was in flight then counts as taken,
   * because a keystroke lost is better than one repeated.
   */
  resume(offset: number): void {
    this.take(offset);
    this.#taken = offset;
    this.#sent = offset;
    this.#inFlight = 0;
  }
}
