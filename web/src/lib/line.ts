// Owns the sockets of one terminal, of which there is one at a time: when to open the next, why the last was closed, and where
// that leaves the terminal. Knows no frames: what is said over a socket is somebody else's.
import { CLOSE_CODES } from "./protocol";
import type { ClientFrame, Status } from "./protocol";
import { Silence } from "./silence";
import type { Phase, View } from "./view";
import type { Environment, Socket } from "./world";

/** The first and the longest pause between two tries; each is shortened by up to a half at random. */
const BACKOFF_MS = { first: 250, longest: 5_000 };
/** Closes a socket without leaving: this page comes back. 1000 would give control away. */
const COMES_BACK = 4000;

/** Who speaks over the line. */
export interface Speaker {
  /** A socket is open. */
  opened(): void;
  /** Something came. */
  heard(data: unknown): void;
  /** The socket is gone, with everything that depends on it. */
  lost(): void;
  /** The gateway does not answer at all, or does again. */
  unanswered(is: boolean): void;
}

/** The line between one terminal and its gateway, over as many sockets as it takes. */
export class Line {
  #env: Environment;
  #view: Pick<View, "phase" | "notice">;
  #speaker: Speaker;
  #phase: Phase = { kind: "opening" };
  #socket: Socket | null = null;
  /** Whether a person asked for this terminal and has not got it yet: only then another page makes way. */
  #asked = false;
  #failures = 0;
  #cancelRetry: () => void = () => {};
  readonly #silence: Silence;
  /** What the gateway said before it closes a socket. */
  #refusal = "";
  /** Whether the last try led to a gateway that does not serve the session, of which a notice tells. */
  #astray = false;

  constructor(env: Environment, view: Pick<View, "phase" | "notice">, speaker: Speaker) {
    this.#env = env;
    this.#view = view;
    this.#speaker = speaker;
    this.#silence = new Silence(env, {
      attached: () => this.isAttached,
      gone: () => this.#drop(),
      unanswered: (is) => speaker.unanswered(is),
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  get isAttached(): boolean {
    return this.#phase.kind === "attached";
  }

  /** Whether the gateway does not answer. */
  get isUnanswered(): boolean {
    return this.#silence.isUnanswered;
  }

  /** Whether there will be no socket any more. */
  get isOver(): boolean {
    return this.#phase.kind === "closed" || this.#phase.kind === "left";
  }

  /** Whether a person asked for this terminal and has not got it yet. */
  get isAsked(): boolean {
    return this.#asked;
  }

  /** A person asks for this terminal: connects now, at first, after `superseded` or `refused`, or ahead of a pause. */
  resume(): void {
    this.#asked = true;
    this.connect();
  }

  /** Connects, unless it is or will never be. No other page makes way. */
  connect(): void {
    if (this.isOver || this.#socket !== null) return;
    if (this.#phase.kind !== "reconnecting") this.#enter({ kind: "opening" });
    else this.#enter({ kind: "reconnecting", retryAt: null });
    this.#cancelRetry();
    const socket = this.#env.open();
    this.#socket = socket;
    this.#refusal = "";
    socket.onopen = () => this.#speaker.opened();
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code }) => {
      if (socket === this.#socket) this.#disconnected(code);
    };
    this.#silence.begin();
  }

  /** The network or the page woke up: ends a pause, and checks a socket that may have died meanwhile. */
  wake(): void {
    if (this.#phase.kind === "reconnecting" && this.#phase.retryAt !== null) this.connect();
    else this.doubt();
  }

  /** The network may be gone: asks whether the gateway still answers. */
  doubt(): void {
    if (this.isAttached) void this.#silence.check();
  }

  /** Leaves without a word and for good. */
  leave(): void {
    this.#phase = { kind: "left" };
    this.#forgetSocket()?.close(1000);
    this.#cancelRetry();
  }

  send(frame: ClientFrame): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** Sends typed bytes, of which the gateway is to be heard soon. */
  type(bytes: Uint8Array): void {
    this.#socket?.send(bytes as Uint8Array<ArrayBuffer>);
    this.#silence.owes();
  }

  /** The gateway attached this page. */
  attached(status: Status, resumed: boolean): void {
    this.#failures = 0;
    this.#asked = false;
    this.#enter({ kind: "attached", status, detail: "", resumed });
    if (this.#astray) this.#view.notice(null);
    this.#astray = false;
  }

  /** The session's status changed. */
  changed(status: Status, detail: string): void {
    this.#enter({ kind: "attached", status, detail, resumed: false });
  }

  /** The session is over. */
  closed(reason: string | null, exitStatus: number | null, message: string): void {
    this.#forgetSocket()?.close(1000);
    this.#close(reason, exitStatus, message);
  }

  /** The gateway said why it closes the socket. The code that follows decides; the message says more. */
  refused(message: string): void {
    this.#refusal = message;
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#view.phase(phase);
  }

  #close(reason: string | null, exitStatus: number | null, message: string): void {
    this.#enter({ kind: "closed", reason, exitStatus, message });
  }

  #receive(data: unknown): void {
    const returned = this.#silence.heard();
    this.#speaker.heard(data);
    if (returned) this.#speaker.unanswered(false);
  }

  /** Takes the socket away, with everything that depends on it. */
  #forgetSocket(): Socket | null {
    const socket = this.#socket;
    this.#socket = null;
    this.#silence.end();
    this.#speaker.lost();
    return socket;
  }

  #disconnected(code: number): void {
    const wasAttached = this.isAttached;
    this.#forgetSocket();
    switch (code) {
      case CLOSE_CODES.misdirected:
        if (this.#asked) return this.#enter({ kind: "refused", code, message: this.#refusal });
        // It was here before: behind one address of several gateways the next try may lead to the right one.
        this.#astray = true;
        this.#pause();
        return this.#view.notice(this.#refusal);
      case CLOSE_CODES.superseded:
        return this.#enter({ kind: "superseded" });
      case CLOSE_CODES.signIn:
      case CLOSE_CODES.protocol:
      case CLOSE_CODES.notYours:
      case CLOSE_CODES.frameTooLarge:
      case CLOSE_CODES.tooMany:
        return this.#enter({ kind: "refused", code, message: this.#refusal });
      case CLOSE_CODES.noSuchSession:
        return void this.#investigate();
      default:
        return wasAttached ? this.#pause() : void this.#investigate();
    }
  }

  /** A socket that failed before it attached tells a page nothing: asks over HTTP whether trying again makes sense. */
  async #investigate(): Promise<void> {
    this.#enter({ kind: "reconnecting", retryAt: null });
    const asked = this.#phase;
    const answer = await this.#env.lookup().catch(() => null);
    if (this.#phase !== asked) return;
    if (answer === "missing") this.#close(null, null, "");
    else if (answer !== null && answer !== "unsaid" && answer.found.status === "closed") {
      this.#close(answer.found.end_reason, answer.found.exit_status, "");
    } else this.#pause();
  }

  #pause(): void {
    const longest = Math.min(BACKOFF_MS.longest, BACKOFF_MS.first * 2 ** this.#failures);
    const ms = longest * (1 - this.#env.random() / 2);
    this.#failures += 1;
    this.#cancelRetry = this.#env.after(ms, () => this.connect());
    this.#enter({ kind: "reconnecting", retryAt: this.#env.now() + ms });
  }

  /** Drops a socket that the gateway has given up, although the page was never told. */
  #drop(): void {
    const wasAttached = this.isAttached;
    this.#forgetSocket()?.close(COMES_BACK);
    if (wasAttached) this.#pause();
    else void this.#investigate();
  }
}
