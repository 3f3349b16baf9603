// Owns when a terminal's socket is silent for too long, and what that means: a page cannot see pings, so it cannot see
// that they stopped, and asks over HTTP. Knows no frames.
import type { Status } from "./protocol";
import type { Environment } from "./world";

/** Silence of a socket after which the gateway is asked about it. */
const QUIET_MS = 15_000;
/** The same after typed input, which is echoed or acknowledged; also the longest time the gateway may take to
 *  answer. */
const PATIENCE_MS = 3_000;

/** The owner of the sockets, which is asked about them and notified. */
export interface Outcome {
  /** Whether the socket is attached; if not, there is nothing to ask about. */
  attached(): boolean;
  /** Called when the gateway has given the socket up, or it never attached. */
  gone(): void;
  /** Called when the gateway stops answering (`true`) or answers again (`false`). */
  unanswered(is: boolean): void;
}

/** Watches one connection's sockets for silence. */
export class Silence {
  #env: Environment;
  #outcome: Outcome;
  /** Signs of life of the gateway and sockets so far: an answer to a question from before the last one no longer
   *  counts. */
  #signs = 0;
  #sockets = 0;
  /** Time of the last sign of life, or of the last question that got no answer. */
  #since = 0;
  /** Time since which typed bytes wait for any reaction; `null` if none do. */
  #owed: number | null = null;
  /** Time at which a question of the login was answered; `null` once the socket brought anything since. */
  #answered: number | null = null;
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

  /** Starts to watch a new socket. */
  begin(): void {
    this.end();
    this.#wait();
  }

  /** Stops watching the socket, which is gone. */
  end(): void {
    this.heard();
    this.#sockets += 1;
    this.#cancelWait();
    this.#cancelAnswer();
    this.#asking = false;
  }

  /** Takes note of a sign of life from the gateway. Returns whether it had stopped answering. */
  heard(): boolean {
    const returned = this.#unanswered;
    this.#signs += 1;
    this.#since = this.#env.now();
    this.#owed = null;
    this.#answered = null;
    this.#unanswered = false;
    return returned;
  }

  /** Takes note that typed bytes were sent. */
  owes(): void {
    if (this.#owed !== null || this.#asking) return;
    this.#owed = this.#env.now();
    this.#wait();
  }

  /** Takes note that the answer to a question of the login was sent. */
  owesForAnswer(): void {
    this.#answered = this.#env.now();
    this.owes();
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
    if (status === "closed" || (status !== null && this.#isGivenUp(status))) return this.#outcome.gone();
    const [since, answered] = [this.#since, this.#answered];
    if (this.heard()) this.#outcome.unanswered(false);
    // Over HTTP the gateway does not say that it got an answer.
    this.#answered = answered;
    // The answer tells a page that watches nothing about its socket.
    if (this.#env.looksOn) this.#since = since;
  }

  /** Whether the gateway, which answers over HTTP, has given the socket up. It says so of the owner's page; to one that
   *  watches it sends a frame with every ping, so silence says so. So it does after an answer that the login may still
   *  wait for: a new socket costs little, and brings the question again if the answer was lost. */
  #isGivenUp(status: Status): boolean {
    if (status === "connecting" && this.#answered !== null) return this.#env.now() - this.#answered >= PATIENCE_MS;
    return this.#env.looksOn ? this.#env.now() - this.#since >= QUIET_MS : status === "detached";
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

  /** Checks the socket if that is still due: there may have been a sign of life since the timer was set. */
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
