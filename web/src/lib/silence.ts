// Owns when a terminal's socket is silent for too long, and what that means: a page cannot see pings, so it cannot see
// that they stopped, and asks over HTTP. Knows no frames.
import type { Environment } from "./world";

/** A socket silent for so long is asked about. */
const QUIET_MS = 15_000;
/** The same once something was typed, which has an echo or an acknowledgement; and so long the gateway may take to answer. */
const PATIENCE_MS = 3_000;

/** What comes of silence. */
export interface Outcome {
  /** Whether the socket is attached; if not, there is nothing to ask about. */
  attached(): boolean;
  /** The gateway has given the socket up, or it never attached. */
  gone(): void;
  /** The gateway does not answer at all, or does again. */
  unanswered(is: boolean): void;
}

/** Listens for the silence of one connection's sockets. */
export class Silence {
  #env: Environment;
  #outcome: Outcome;
  /** Counts what proves that the gateway lives, and the sockets: what was asked before no longer counts. */
  #signs = 0;
  #sockets = 0;
  /** When there was the last one, or the last question came to nothing. */
  #since = 0;
  /** Since when typed bytes wait for any answer. */
  #owed: number | null = null;
  #unanswered = false;
  #asking = false;
  #cancelWait: () => void = () => {};
  #cancelAnswer: () => void = () => {};

  constructor(env: Environment, outcome: Outcome) {
    this.#env = env;
    this.#outcome = outcome;
  }

  /** Whether the gateway does not answer. */
  get isUnanswered(): boolean {
    return this.#unanswered;
  }

  /** A new socket is opened. */
  begin(): void {
    this.end();
    this.#wait();
  }

  /** The socket is gone. */
  end(): void {
    this.heard();
    this.#sockets += 1;
    this.#cancelWait();
    this.#cancelAnswer();
    this.#asking = false;
  }

  /** Something came from the gateway. Returns whether it had not answered. */
  heard(): boolean {
    const returned = this.#unanswered;
    this.#signs += 1;
    this.#since = this.#env.now();
    this.#owed = null;
    this.#unanswered = false;
    return returned;
  }

  /** Typed bytes were sent. */
  owes(): void {
    if (this.#owed !== null || this.#asking) return;
    this.#owed = this.#env.now();
    this.#wait();
  }

  /** Asks whether the gateway still has this socket. */
  async check(): Promise<void> {
    const signs = this.#signs;
    const isStale = () => signs !== this.#signs;
    this.#cancelAnswer();
    this.#cancelAnswer = this.#env.after(PATIENCE_MS, () => isStale() || this.#giveUp());
    const answer = await this.#env.lookup().catch(() => null);
    if (isStale()) return;
    this.#cancelAnswer();
    if (answer === null) return this.#giveUp();
    const status = answer === "missing" ? "closed" : answer === "unsaid" ? null : answer.found.status;
    // Where this page looks on, it is the owner's that is away.
    if (status === "closed" || (status === "detached" && !this.#env.looksOn)) return this.#outcome.gone();
    if (this.heard()) this.#outcome.unanswered(false);
  }

  #giveUp(): void {
    this.#since = this.#env.now();
    this.#owed = null;
    const isNew = !this.#unanswered;
    this.#unanswered = true;
    if (!this.#asking) this.#wait();
    if (isNew) this.#outcome.unanswered(true);
  }

  get #due(): number {
    if (this.#owed !== null) return this.#owed + PATIENCE_MS;
    return this.#since + (this.#unanswered ? PATIENCE_MS : QUIET_MS);
  }

  #wait(): void {
    this.#cancelWait();
    this.#cancelWait = this.#env.after(Math.max(0, this.#due - this.#env.now()), () => void this.#look());
  }

  /** Something may have been heard since this was to be looked at. */
  async #look(): Promise<void> {
    if (this.#due > this.#env.now()) return this.#wait();
    if (!this.#outcome.attached()) return this.#outcome.gone();
    // One question at a time: a page has few connections, and a dead network takes its time with each.
    this.#asking = true;
    const socket = this.#sockets;
    await this.check();
    if (socket !== this.#sockets) return;
    this.#asking = false;
    this.#wait();
  }
}
