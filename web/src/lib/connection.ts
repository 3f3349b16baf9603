// Owns what one terminal's page and its session say to each other: attach, offsets, acknowledgements, sizes, who types, input that
// survives a lost socket. Knows neither Svelte nor xterm nor the clock: they come as `Environment` and `View`.
import { Away, isAnswer, isReport, isTyped } from "./away";
import { InputBuffer } from "./input";
import { Line } from "./line";
import { parseServerFrame } from "./protocol";
import type { ClientFrame, Control, ServerFrame } from "./protocol";
import type { Phase, View } from "./view";
import type { Environment } from "./world";

/** Acknowledge at the latest after so many bytes: a sixteenth of the default window. */
const ACK_BYTES = 32 * 1024;
/** Acknowledge less than that after so long, so that a keystroke's echo costs no frame of its own. */
const ACK_IDLE_MS = 50;
const RESIZE_IDLE_MS = 50;
/** History is on the screen by then; a count that is off must not keep a terminal mute. */
const HISTORY_MS = 2_000;

/** One terminal's connection to its session. */
export class Connection {
  #env: Environment;
  #view: View;
  readonly #line: Line;

  /** Counts the sockets: what an older one brought counts no more. */
  #sockets = 0;
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

  /** What the gateway wants known. */
  #notice: string | null = null;

  constructor(env: Environment, view: View) {
    this.#env = env;
    this.#view = view;
    this.#typing = !env.looksOn;
    this.#line = new Line(env, view, {
      opened: () => this.#attach(),
      heard: (data) => this.#receive(data),
      lost: () => this.#lost(),
      unanswered: (is) => this.#unanswered(is),
    });
  }

  get phase(): Phase {
    return this.#line.phase;
  }

  /** Whether what is typed waits for the gateway to be back. */
  get isAway(): boolean {
    return !this.#line.isAttached || this.#line.isUnanswered;
  }

  /** While true, the screen shows old output again: what it answers to old questions of the target must not be sent. */
  get #replaying(): boolean {
    return this.#parsed < this.#history.end && this.#env.now() < this.#history.until;
  }

  /** A person asks for this terminal: connects now, at first, after `superseded` or `refused`, or ahead of a pause. */
  resume(): void {
    this.#line.resume();
  }

  /** The page had this terminal before, as before a reload: connects, and no other page makes way. */
  comeBack(): void {
    this.#line.connect();
  }

  /** The network or the page woke up: ends a pause, and checks a socket that may have died meanwhile. */
  wake(): void {
    this.#line.wake();
  }

  /** The network may be gone: asks whether the gateway still answers. */
  doubt(): void {
    this.#line.doubt();
  }

  /** Leaves without a word and for good: the session detaches and waits. */
  detach(): void {
    this.#line.leave();
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
    const { kind } = this.phase;
    // What is said into a socket that may be dead is not told; leaving forgets that it may be.
    const isTold = kind !== "opening" && kind !== "reconnecting" && !this.#line.isUnanswered;
    this.#say({ type: "close" });
    this.detach();
    return isTold;
  }

  /** Queues typed bytes, a few also while disconnected; false if there is no room or the session is over. */
  input(bytes: Uint8Array): boolean {
    if (this.#line.isOver) return false;
    if (!this.#typing || (this.#replaying && (isAnswer(bytes) || isReport(bytes)))) return true;
    // Typed here it would be of a turn that is over once this page types again.
    if (this.phase.kind === "superseded") return true;
    if (this.isAway) {
      const kept = isReport(bytes) || this.#away.push(bytes);
      this.#view.waiting(this.#away.waiting(false));
      return kept;
    }
    if (!this.#input.push(bytes)) return false;
    if (isTyped(bytes)) this.#view.idle(null);
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
    if (!this.#line.isAttached) return;
    this.#view.prompt(null);
    this.#line.send({ type: "answer", id, values });
  }

  /** Takes an idle warning back. */
  stay(): void {
    this.#view.idle(null);
    this.#say({ type: "stay" });
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

  #say(frame: ClientFrame): void {
    if (this.#line.isAttached) this.#line.send(frame);
  }

  #tellSize(): void {
    if (!this.#line.isAttached || !this.#typing || this.#told === this.#size) return;
    this.#told = this.#size;
    this.#line.send({ type: "resize", ...this.#size });
  }

  #attach(): void {
    this.#told = this.#size;
    this.#line.send({
      type: "attach",
      ...this.#size,
      mode: this.#env.looksOn ? "observe" : "interactive",
      client_id: this.#env.clientId,
      output_offset: this.#received,
      input_offset: this.#input.sent,
      screen: true,
      control: true,
      ...(this.#line.isAsked ? {} : { again: true }),
    });
  }

  #receive(data: unknown): void {
    if (data instanceof ArrayBuffer) this.#output(new Uint8Array(data));
    else if (typeof data === "string") {
      const frame = parseServerFrame(data);
      if (frame !== null) this.#control(frame);
    }
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
    if (!this.#line.isAttached) return;
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
        return this.#line.changed(frame.status, frame.detail);
      case "idle_warning":
        return this.#view.idle(frame.closes_in_ms);
      case "duration_warning":
        return this.#view.timeUp(frame.closes_in_ms);
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
        return this.#line.closed(frame.reason, frame.exit_status, frame.message);
      case "error":
        return this.#line.refused(frame.message);
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
    this.#line.attached(frame.session.status, frame.resumed);
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
    if (control.typing) this.#line.send({ type: "typing", turn: control.turn });
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
    const [socket, end] = [this.#sockets, this.#received];
    this.#view.write(bytes, () => {
      // Attaching said already how far output is consumed, so an older socket's bytes count no more.
      if (socket !== this.#sockets) return;
      this.#parsed = Math.max(this.#parsed, end);
      if (this.#parsed - this.#acked >= ACK_BYTES) this.#acknowledge();
      else this.#cancelAck ??= this.#env.after(ACK_IDLE_MS, () => this.#acknowledge());
    });
  }

  #acknowledge(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    if (!this.#line.isAttached || this.#parsed <= this.#acked) return;
    this.#acked = this.#parsed;
    this.#line.send({ type: "ack", output_offset: this.#acked });
  }

  #flush(): void {
    if (!this.#line.isAttached) return;
    for (let frame = this.#input.next(); frame !== null; frame = this.#input.next()) {
      this.#line.type(frame);
    }
  }

  /** The socket is gone, and with it everything that depends on it. */
  #lost(): void {
    this.#sockets += 1;
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
    this.#view.timeUp(null);
    // A gateway that still means it says so again.
    this.#notice = null;
    this.#view.notice(null);
    this.#view.watchers([]);
    this.#view.requests([]);
    this.#view.answer(null);
    this.#view.waiting(this.#away.waiting(false));
  }
}
