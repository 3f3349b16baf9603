// Owns one terminal's WebSocket: attach, offsets, acknowledgements, input that survives a lost socket, reconnecting.
// Knows neither Svelte nor xterm nor the clock: they come as `Environment` and `View`.
import { Away, isAnswer, isReport } from "./away";
import { InputBuffer } from "./input";
import { CLOSE_CODES, parseServerFrame } from "./protocol";
import type { ClientFrame, Control, ServerFrame } from "./protocol";
import { Silence } from "./silence";
import type { Phase, View } from "./view";
import type { Environment, Socket } from "./world";

/** The first and the longest pause between two tries; each is shortened by up to a half at random. */
const BACKOFF_MS = { first: 250, longest: 5_000 };
/** Acknowledge at the latest after so many bytes: a sixteenth of the default window. */
const ACK_BYTES = 32 * 1024;
/** Acknowledge less than that after so long, so that a keystroke's echo costs no frame of its own. */
const ACK_IDLE_MS = 50;
const RESIZE_IDLE_MS = 50;
/** History is on the screen by then; a count that is off must not keep a terminal mute. */
const HISTORY_MS = 2_000;
/** Closes a socket without leaving: this page comes back. 1000 would give control away. */
const COMES_BACK = 4000;

/** One terminal's connection to its session, over as many sockets as it takes. */
export class Connection {
  #env: Environment;
  #view: View;
  #phase: Phase = { kind: "opening" };
  #socket: Socket | null = null;
  /** Whether a person asked for this terminal and has not got it yet: only then another page makes way. */
  #asked = false;
  #failures = 0;
  #cancelRetry: () => void = () => {};

  #input = new InputBuffer();
  #away = new Away();
  /** Bytes handed to the view, which never drops any; `null` before the first attach. */
  #received: number | null = null;
  #parsed = 0;
  #acked = 0;
  /** Bytes of a picture that are still to come; they count in no offset. */
  #picture = 0;
  #cancelAck: (() => void) | null = null;
  /** Output below this offset, within this time, is history shown again. */
  #history = { end: 0, until: 0 };

  #size = { cols: 80, rows: 24 };
  /** The size the gateway was told last. */
  #told = this.#size;
  #cancelResize: (() => void) | null = null;
  /** Whether this page types, and the last turn it heard of: what was typed in an older one must not be sent. */
  #typing: boolean;
  #turn: number | null = null;

  readonly #silence: Silence;
  /** What the gateway wants known. */
  #notice: string | null = null;
  #refusal = "";
  /** Whether the last try led to a gateway that does not serve the session, of which a notice tells. */
  #astray = false;

  constructor(env: Environment, view: View) {
    this.#env = env;
    this.#view = view;
    this.#typing = !env.looksOn;
    this.#silence = new Silence(env, {
      attached: () => this.#phase.kind === "attached",
      gone: () => this.#drop(),
      unanswered: (is) => this.#unanswered(is),
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Whether what is typed waits for the gateway to be back. */
  get isAway(): boolean {
    return this.#phase.kind !== "attached" || this.#silence.isUnanswered;
  }

  /** While true, the screen shows old output again: what it answers to old questions of the target must not be sent. */
  get #replaying(): boolean {
    return this.#parsed < this.#history.end && this.#env.now() < this.#history.until;
  }

  /** A person asks for this terminal: connects now, at first, after `superseded` or `refused`, or ahead of a pause. */
  resume(): void {
    this.#asked = true;
    this.#connect();
  }

  /** The page had this terminal before, as before a reload: connects, and no other page makes way. */
  comeBack(): void {
    this.#connect();
  }

  #connect(): void {
    if (this.#isOver || this.#socket !== null) return;
    if (this.#phase.kind !== "reconnecting") this.#enter({ kind: "opening" });
    else this.#enter({ kind: "reconnecting", retryAt: null });
    this.#cancelRetry();
    const socket = this.#env.open();
    this.#socket = socket;
    this.#refusal = "";
    socket.onopen = () => this.#attach();
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
    if (this.#phase.kind === "reconnecting" && this.#phase.retryAt !== null) this.#connect();
    else this.doubt();
  }

  /** The network may be gone: asks whether the gateway still answers. */
  doubt(): void {
    if (this.#phase.kind === "attached") void this.#silence.check();
  }

  /** Leaves without a word and for good: the session detaches and waits. */
  detach(): void {
    this.#phase = { kind: "left" };
    this.#forgetSocket()?.close(1000);
    this.#cancelRetry();
  }

  /**
   * The person is done. False if the gateway could not be told here, so that the caller must say it over HTTP. A
   * session that is over, not theirs, or used elsewhere is only left.
   */
  end(): boolean {
    if (this.#env.looksOn) {
      this.detach();
      return true;
    }
    const { kind } = this.#phase;
    // What is said into a socket that may be dead is not told; leaving forgets that it may be.
    const isTold = kind !== "opening" && kind !== "reconnecting" && !this.#silence.isUnanswered;
    this.#say({ type: "close" });
    this.detach();
    return isTold;
  }

  /** Queues typed bytes, a few also while disconnected; false if there is no room or the session is over. */
  input(bytes: Uint8Array): boolean {
    if (this.#isOver) return false;
    if (!this.#typing || (this.#replaying && (isAnswer(bytes) || isReport(bytes)))) return true;
    // Typed here it would be of a turn that is over once this page types again.
    if (this.#phase.kind === "superseded") return true;
    if (this.isAway) {
      const kept = isReport(bytes) || this.#away.push(bytes);
      this.#view.waiting(this.#away.waiting(false));
      return kept;
    }
    if (!this.#input.push(bytes)) return false;
    this.#view.idle(null);
    this.#flush();
    return true;
  }

  /** Sends what was typed while away; does nothing before the gateway is back. */
  release(): void {
    if (this.isAway) return;
    const typed = this.#away.take();
    this.#view.waiting(null);
    if (typed.length > 0) this.input(typed);
  }

  /** Forgets what was typed while away. */
  discard(): void {
    this.#away.take();
    this.#view.waiting(null);
  }

  /** The terminal has a new size; sizes are clamped to 1…1000 and told when they rest. */
  resize(cols: number, rows: number): void {
    const clamp = (n: number) => Math.min(1000, Math.max(1, Math.trunc(n)));
    const size = { cols: clamp(cols), rows: clamp(rows) };
    if (size.cols === this.#size.cols && size.rows === this.#size.rows) return;
    this.#size = size;
    this.#cancelResize?.();
    this.#cancelResize = this.#env.after(RESIZE_IDLE_MS, () => this.#tellSize());
  }

  /** Answers a prompt; the values are not kept. */
  answer(id: number, values: string[]): void {
    if (this.#phase.kind !== "attached") return;
    this.#view.prompt(null);
    this.#send({ type: "answer", id, values });
  }

  /** Takes an idle warning back. */
  stay(): void {
    this.#view.idle(null);
    if (this.#phase.kind === "attached") this.#send({ type: "stay" });
  }

  /** Asks the owner to be let type. */
  askForControl(): void {
    this.#say({ type: "request_control" });
  }

  /** The owner takes control back; an onlooker takes it where they may. */
  takeControl(): void {
    this.#say({ type: "take_control" });
  }

  /** A guest gives control back. */
  returnControl(): void {
    this.#say({ type: "return_control" });
  }

  /** The owner lets somebody type, or does not. */
  answerRequest(id: number, granted: boolean): void {
    this.#say({ type: granted ? "grant_control" : "refuse_control", id });
  }

  get #isOver(): boolean {
    return this.#phase.kind === "closed" || this.#phase.kind === "left";
  }

  #say(frame: ClientFrame): void {
    if (this.#phase.kind === "attached") this.#send(frame);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#view.phase(phase);
  }

  #close(reason: string | null, exitStatus: number | null, message: string): void {
    this.#enter({ kind: "closed", reason, exitStatus, message });
  }

  #send(frame: ClientFrame): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  #tellSize(): void {
    if (this.#phase.kind !== "attached" || !this.#typing || this.#told === this.#size) return;
    this.#told = this.#size;
    this.#send({ type: "resize", ...this.#size });
  }

  #attach(): void {
    this.#told = this.#size;
    this.#send({
      type: "attach",
      ...this.#size,
      mode: this.#env.looksOn ? "observe" : "interactive",
      client_id: this.#env.clientId,
      output_offset: this.#received,
      input_offset: this.#input.sent,
      screen: true,
      control: true,
      ...(this.#asked ? {} : { again: true }),
    });
  }

  #receive(data: unknown): void {
    const returned = this.#silence.heard();
    if (data instanceof ArrayBuffer) this.#output(new Uint8Array(data));
    else if (typeof data === "string") {
      const frame = parseServerFrame(data);
      if (frame !== null) this.#control(frame);
    }
    if (returned) this.#unanswered(false);
  }

  /** What is typed into a socket that may be dead is typed blind: it waits where it is seen, as while away. */
  #unanswered(is: boolean): void {
    const next = this.#typing ? "What you type is kept and sent once it is back." : "This page goes on once it is back.";
    this.#view.notice(is ? `The gateway does not answer. ${next}` : this.#notice);
    if (is) this.#view.waiting(this.#away.waiting(false));
    else this.#settleAway();
  }

  /** What it was typed for may be gone: one line is a keystroke or two away from being taken back, several are not. */
  #settleAway(): void {
    if (this.#phase.kind !== "attached") return;
    if (this.#away.isLong) this.#view.waiting(this.#away.waiting(true));
    else this.release();
  }

  #control(frame: ServerFrame): void {
    switch (frame.type) {
      case "attached":
        return this.#attached(frame);
      case "screen":
        return this.#startAt(frame.output_offset, frame.screen_bytes);
      case "input_ack":
        this.#input.take(frame.input_offset);
        return this.#flush();
      case "prompt":
        return this.#view.prompt(frame);
      case "status":
        // `closed` has a frame of its own, which also says why.
        if (frame.status === "closed") return;
        if (frame.status === "active") this.#view.prompt(null);
        return this.#enter({ kind: "attached", status: frame.status, detail: frame.detail, resumed: false });
      case "idle_warning":
        return this.#view.idle(frame.closes_in_ms);
      case "notice":
        this.#notice = frame.message;
        return this.#view.notice(frame.message);
      case "size":
        // Of before this page typed: its size is its own now.
        return this.#typing ? undefined : this.#view.size(frame.cols, frame.rows);
      case "watchers":
        return this.#view.watchers(frame.names);
      case "control":
        return this.#moved(frame);
      case "control_requests":
        return this.#view.requests(frame.items);
      case "control_answer":
        return this.#view.answer(frame);
      case "input_refused":
        // `control` says how far typing was taken.
        return;
      case "closed":
        this.#forgetSocket()?.close(1000);
        return this.#close(frame.reason, frame.exit_status, frame.message);
      case "error":
        // The close code that follows decides; the message says more.
        this.#refusal = frame.message;
        return;
    }
  }

  #attached(frame: Extract<ServerFrame, { type: "attached" }>): void {
    const fresh = this.#received === null;
    const drawn = frame.screen_bytes > 0;
    const control = frame.control;
    const unsent = control === undefined ? 0 : this.#hold(control);
    if (!this.#typing) this.#view.size(frame.cols, frame.rows);
    // A picture clears the screen itself.
    if (this.#received !== null && frame.output_offset < this.#received && !drawn) this.#view.reset();
    if (fresh || drawn) this.#history = { end: frame.session.bytes_out, until: this.#env.now() + HISTORY_MS };
    this.#startAt(frame.output_offset, frame.screen_bytes);
    this.#failures = 0;
    this.#asked = false;
    this.#enter({ kind: "attached", status: frame.session.status, detail: "", resumed: frame.resumed });
    if (this.#astray) this.#view.notice(null);
    this.#astray = false;
    if (control !== undefined) this.#view.control(control);
    if (unsent > 0) this.#view.unsent(unsent);
    this.#tellSize();
    // On a picture the words would stand in the middle of a program's screen, which lacks nothing.
    if (frame.lost_bytes > 0 && !drawn) this.#view.lost(frame.lost_bytes);
    this.#input.resume(frame.input_offset);
    this.#flush();
    this.#settleAway();
  }

  /** Control moved while this page is here. What it sent meanwhile is of an earlier turn, and goes nowhere. */
  #moved(control: Control): void {
    const unsent = this.#hold(control);
    if (control.typing) this.#send({ type: "typing", turn: control.turn });
    this.#view.control(control);
    if (unsent > 0) this.#view.unsent(unsent);
    // The size is that of who types; which the gateway was told before counts no more.
    this.#told = { ...this.#size };
    this.#tellSize();
  }

  /** Takes note of who types; returns how much of what was typed here is forgotten, since it is of another turn. */
  #hold({ turn, typing, input_offset }: Control): number {
    const moved = this.#turn !== null && this.#turn !== turn;
    [this.#turn, this.#typing] = [turn, typing];
    if (typing && !moved) return 0;
    const unsent = this.#input.forget(input_offset) + this.#away.take().length;
    this.#view.waiting(null);
    return unsent;
  }

  /** Output goes on at `offset`, behind a picture of so many bytes. */
  #startAt(offset: number, picture: number): void {
    this.#received = this.#parsed = this.#acked = offset;
    this.#picture = picture;
  }

  #output(bytes: Uint8Array): void {
    if (this.#received === null) return;
    if (this.#picture > 0) {
      // A frame is all picture or all output.
      this.#picture -= bytes.length;
      return this.#view.write(bytes, () => {});
    }
    this.#received += bytes.length;
    const [socket, end] = [this.#socket, this.#received];
    this.#view.write(bytes, () => {
      // Attaching said already how far output is consumed, so an older socket's bytes count no more.
      if (socket !== this.#socket) return;
      this.#parsed = Math.max(this.#parsed, end);
      if (this.#parsed - this.#acked >= ACK_BYTES) this.#acknowledge();
      else this.#cancelAck ??= this.#env.after(ACK_IDLE_MS, () => this.#acknowledge());
    });
  }

  #acknowledge(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    if (this.#phase.kind !== "attached" || this.#parsed <= this.#acked) return;
    this.#acked = this.#parsed;
    this.#send({ type: "ack", output_offset: this.#acked });
  }

  #flush(): void {
    if (this.#phase.kind !== "attached") return;
    for (let frame = this.#input.next(); frame !== null; frame = this.#input.next()) {
      this.#socket?.send(frame as Uint8Array<ArrayBuffer>);
      this.#silence.owes();
    }
  }

  /** Takes the socket away, with everything that depends on it. */
  #forgetSocket(): Socket | null {
    const socket = this.#socket;
    this.#socket = null;
    this.#silence.end();
    this.#cancelAck?.();
    this.#cancelAck = null;
    if (this.#picture > 0) {
      // Half a picture is none: the next socket brings a whole one.
      this.#picture = 0;
      this.#received = null;
      this.#view.reset();
    }
    this.#view.prompt(null);
    this.#view.idle(null);
    // A gateway that still means it says so again.
    this.#notice = null;
    this.#view.notice(null);
    this.#view.watchers([]);
    this.#view.requests([]);
    this.#view.answer(null);
    this.#view.waiting(this.#away.waiting(false));
    return socket;
  }

  #disconnected(code: number): void {
    const wasAttached = this.#phase.kind === "attached";
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
    this.#cancelRetry = this.#env.after(ms, () => this.#connect());
    this.#enter({ kind: "reconnecting", retryAt: this.#env.now() + ms });
  }

  /** Drops a socket that the gateway has given up, although the page was never told. */
  #drop(): void {
    const wasAttached = this.#phase.kind === "attached";
    this.#forgetSocket()?.close(COMES_BACK);
    if (wasAttached) this.#pause();
    else void this.#investigate();
  }
}
