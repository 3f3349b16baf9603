// Owns the sockets of one terminal, one at a time: when to open the next, why the last was closed, and the phase that
// follows. Knows no frames: a `Speaker` sends and reads them.
import { CLOSE_CODES } from "./protocol";
import type { ClientFrame, Status } from "./protocol";
import { Silence } from "./silence";
import type { Phase, View } from "./view";
import type { Environment, Socket } from "./world";

/** The first and the longest pause between two tries; each is shortened by up to a half at random. */
const BACKOFF_MS = { first: 250, longest: 5_000 };
/** Close code of a page that will come back; 1000 would give control away. */
const COMES_BACK = 4000;

/** The user of a line, which sends and reads its frames. */
export interface Speaker {
  /** Called when a socket is open. */
  opened(): void;
  /** Called with each message. */
  heard(data: unknown): void;
  /** Called when the socket is gone, with everything that depends on it. */
  lost(): void;
  /** Called when the gateway stops answering (`true`) or answers again (`false`). */
  unanswered(is: boolean): void;
}

/** The line between one terminal and its gateway, over one socket after another. */
export class Line {
  #env: Environment;
  #view: Pick<View, "phase" | "notice">;
  #speaker: Speaker;
  #phase: Phase = { kind: "opening" };
  #socket: Socket | null = null;
  /** Whether the user asked for this terminal and it is not attached yet: only then may it supersede another page. */
  #asked = false;
  #failures = 0;
  #cancelRetry: () => void = () => {};
  readonly #silence: Silence;
  /** The message that the gateway sent before it closed the socket; empty for none. */
  #refusal = "";
  /** Whether the last try reached a gateway that does not serve the session; a notice says so. */
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

  /** Whether no further socket will be opened. */
  get isOver(): boolean {
    return this.#phase.kind === "closed" || this.#phase.kind === "left";
  }

  /** Whether the user asked for this terminal and it is not attached yet. */
  get isAsked(): boolean {
    return this.#asked;
  }

  /** Connects now because the user asks for this terminal: at first, after `superseded` or `refused`, or during a
   *  pause. */
  resume(): void {
    this.#asked = true;
    this.connect();
  }

  /** Connects, unless there is a socket or the line is over. By itself it does not supersede another page. */
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

  /** Ends a pause, or checks a socket that may have died meanwhile, once the network or the page is awake again. */
  wake(): void {
    if (this.#phase.kind === "reconnecting" && this.#phase.retryAt !== null) this.connect();
    else this.doubt();
  }

  /** Asks whether the gateway still answers, since the network may be gone. */
  doubt(): void {
    if (this.isAttached) void this.#silence.check();
  }

  /** Closes the socket for good; the view is not notified. */
  leave(): void {
    this.#phase = { kind: "left" };
    this.#forgetSocket()?.close(1000);
    this.#cancelRetry();
  }

  send(frame: ClientFrame): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** Sends typed bytes, to which the gateway must react soon. */
  type(bytes: Uint8Array): void {
    this.#socket?.send(bytes as Uint8Array<ArrayBuffer>);
    this.#silence.owes();
  }

  /** Sends the answer to a question, to which the gateway must react soon. */
  answer(frame: ClientFrame): void {
    this.send(frame);
    this.#silence.owesForAnswer();
  }

  /** Takes note that the gateway attached this page. */
  attached(status: Status, resumed: boolean): void {
    this.#failures = 0;
    this.#asked = false;
    this.#enter({ kind: "attached", status, detail: "", resumed });
    if (this.#astray) this.#view.notice(null);
    this.#astray = false;
  }

  /** Takes note of the session's new status. */
  changed(status: Status, detail: string): void {
    this.#enter({ kind: "attached", status, detail, resumed: false });
  }

  /** Closes the socket, since the session is over. */
  closed(reason: string | null, exitStatus: number | null, message: string): void {
    this.#forgetSocket()?.close(1000);
    this.#close(reason, exitStatus, message);
  }

  /** Keeps the gateway's message about closing the socket. The close code that follows decides; the message says
   *  more. */
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

  /** Forgets the socket, with everything that depends on it, and returns it. */
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
        // This page had the terminal before: where gateways share an address, the next try may reach the right one.
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

  /** Asks over HTTP whether to try again, since a socket that fails before it attaches gives a page no reason. */
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

  /** Drops a socket that the gateway has given up without the page noticing. */
  #drop(): void {
    const wasAttached = this.isAttached;
    this.#forgetSocket()?.close(COMES_BACK);
    if (wasAttached) this.#pause();
    else void this.#investigate();
  }
}
