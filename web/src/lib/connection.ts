// Owns the protocol between one terminal's page and its session: attach, offsets, acknowledgements, sizes, control, and
// input that survives a lost socket. Knows neither Svelte nor xterm nor the clock: uses an `Environment` and a `View`.
import { Away, isAnswer, isReport, isTyped } from "./away";
import { InputBuffer } from "./input";
import { Line } from "./line";
import { parseServerFrame } from "./protocol";
import type { ClientFrame, Control, Prompt, ServerFrame, Status } from "./protocol";
import { goesOn, type Phase, type View } from "./view";
import type { Environment } from "./world";

/** Parsed bytes after which output is acknowledged at once: a sixteenth of the default window. */
const ACK_BYTES = 32 * 1024;
/** Delay before fewer bytes are acknowledged, so that a keystroke's echo does not cost a frame of its own. */
const ACK_IDLE_MS = 50;
const RESIZE_IDLE_MS = 50;
/** Input that is on its way at any time while somebody types; more is a paste. */
const TYPED_BYTES = 1024;
/** Longest time that output counts as history: it is on the screen by then, and a wrong count must not mute a
 *  terminal. */
const HISTORY_MS = 2_000;

/** One terminal's connection to its session. */
export class Connection {
  #env: Environment;
  #view: View;
  readonly #line: Line;

  /** Sockets lost so far: output that an older one brought no longer counts. */
  #sockets = 0;
  #input = new InputBuffer();
  #away = new Away();
  /** Offset up to which output was handed to the view, which never drops any; `null` before the first attach. */
  #received: number | null = null;
  #parsed = 0;
  #acked = 0;
  /** Bytes of a picture that are still to come; they count in no offset. */
  #picture = 0;
  #cancelAck: (() => void) | null = null;
  /** Output below the offset `end`, before the time `until`, is history shown again. */
  #history = { end: 0, until: 0 };

  #size = { cols: 80, rows: 24 };
  /** The size last sent to the gateway. */
  #told = this.#size;
  #cancelResize: (() => void) | null = null;
  /** Whether this page has control, and the last turn it received: input typed in an older turn must not be sent. */
  #typing: boolean;
  #turn: number | null = null;

  /** Whether a warning of idleness is shown. */
  #warned = false;

  /** Whether the login is under way as far as this page knows: what is typed then while away may be meant for one of
   *  its questions, and must not be run by the shell later. */
  #login = false;
  /** Whether one of its questions stands. */
  #prompted = false;
  /** Whether the view was told, since the gateway was last there, that such input is dropped. */
  #dropped = false;

  /** The gateway's current notice. */
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

  /** Whether typed input is held back until the gateway answers again. */
  get isAway(): boolean {
    return !this.#line.isAttached || this.#line.isUnanswered;
  }

  /** Whether it holds input that is lost with this page: what was typed while away, or a paste on its way. A key that is
   *  typed now is with the gateway before anybody leaves. */
  get holdsInput(): boolean {
    if (!goesOn(this.phase)) return false;
    return this.#away.waiting(false) !== null || this.#input.pending > (this.isAway ? 0 : TYPED_BYTES);
  }

  /** Whether old output is being shown again: the screen's answers to old queries of the target must not be sent. */
  get #replaying(): boolean {
    return this.#parsed < this.#history.end && this.#env.now() < this.#history.until;
  }

  /** Connects now because the user asks for this terminal: at first, after `superseded` or `refused`, or during a
   *  pause. */
  resume(): void {
    this.#line.resume();
  }

  /** Connects a terminal that the page had before, as before a reload, without superseding another page. */
  comeBack(): void {
    this.#line.connect();
  }

  /** Ends a pause, or checks a socket that may have died meanwhile, once the network or the page is awake again. */
  wake(): void {
    this.#line.wake();
  }

  /** Asks whether the gateway still answers, since the network may be gone. */
  doubt(): void {
    this.#line.doubt();
  }

  /** Leaves for good without ending the session, which is then detached. */
  detach(): void {
    this.#line.leave();
  }

  /**
   * Ends the session, since the user is done. Returns false if that could not be sent here, so that the caller must end
   * it over HTTP. A session that is over, not the user's own, or in use on another page is only left.
   */
  end(): boolean {
    if (this.#env.looksOn) {
      this.detach();
      return true;
    }
    const { kind } = this.phase;
    // A frame on a socket that may be dead does not count as sent; `detach()` forgets that it may be.
    const isTold = kind !== "opening" && kind !== "reconnecting" && !this.#line.isUnanswered;
    this.#say({ type: "close" });
    this.detach();
    return isTold;
  }

  /** Queues typed bytes, a few also while disconnected; returns false if there is no room or the session is over. */
  input(bytes: Uint8Array): boolean {
    if (this.#line.isOver) return false;
    if (!this.#typing || (this.#replaying && (isAnswer(bytes) || isReport(bytes)))) return true;
    // Dropped: it would belong to a turn that is over once this page has control again.
    if (this.phase.kind === "superseded") return true;
    if (this.isAway) {
      const kept = isReport(bytes) || (this.#login ? this.#drop() : this.#away.push(bytes));
      this.#view.waiting(this.#away.waiting(false));
      return kept;
    }
    if (!this.#input.push(bytes)) return false;
    this.#flush();
    // A key behind a paste that the target does not take stays here: the gateway would not hear of it.
    if (this.#warned && isTyped(bytes)) this.stay();
    return true;
  }

  #drop(): true {
    if (!this.#dropped) this.#view.dropped();
    this.#dropped = true;
    return true;
  }

  /** Sends the input typed while disconnected; does nothing before the gateway is back. */
  release(): void {
    if (this.isAway) return;
    const typed = this.#away.take();
    this.#view.waiting(null);
    if (typed.length > 0) this.input(typed);
  }

  /** Forgets the input typed while disconnected. */
  discard(): void {
    this.#away.take();
    this.#view.waiting(null);
  }

  /** Takes the terminal's new size, clamped to 1…1000, and sends it once it no longer changes. */
  resize(cols: number, rows: number): void {
    const clamp = (n: number) => Math.min(1000, Math.max(1, Math.trunc(n)));
    const size = { cols: clamp(cols), rows: clamp(rows) };
    if (size.cols === this.#size.cols && size.rows === this.#size.rows) return;
    this.#size = size;
    this.#cancelResize?.();
    this.#cancelResize = this.#env.after(RESIZE_IDLE_MS, () => this.#tellSize());
  }

  /** Answers a prompt, once the gateway is there; the values are not kept. */
  answer(id: number, values: string[]): void {
    if (this.isAway) return;
    this.#prompt(null);
    this.#line.answer({ type: "answer", id, values });
  }

  /** Withdraws an idle warning: the user is still here. */
  stay(): void {
    this.#warned = false;
    this.#view.idle(null);
    this.#say({ type: "stay" });
  }

  /** Asks the owner for control. */
  askForControl(): void {
    this.#say({ type: "request_control" });
  }

  /** Takes control: the owner takes it back, a watcher takes it where the policy allows. */
  takeControl(): void {
    this.#say({ type: "take_control" });
  }

  /** Gives control back to the owner. */
  returnControl(): void {
    this.#say({ type: "return_control" });
  }

  /** Grants or refuses a request for control, as the owner. */
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

  /** Shows that the gateway stopped answering, or answers again; input is held back and shown meanwhile, as while
   *  away. */
  #unanswered(is: boolean): void {
    this.#view.unanswered(is);
    this.#view.notice(is ? `The gateway does not answer.${this.#outlook}` : this.#notice);
    if (is) this.#view.waiting(this.#away.waiting(false));
    else this.#settleAway();
  }

  /** The sentence about what is typed meanwhile; none over a question, which says itself when it can be answered. */
  get #outlook(): string {
    if (!this.#typing) return " This page continues once it is back.";
    if (this.#prompted) return "";
    return this.#login ? " What you type is not kept." : " What you type is kept and sent once it is back.";
  }

  /** Sends held-back input, but asks first if it has several lines: the screen may have changed, and only one is
   *  easily undone. */
  #settleAway(): void {
    if (!this.#line.isAttached) return;
    // Typed before this page was first told that the login is under way, as after a reload.
    if (this.#login && this.#away.take().length > 0) this.#drop();
    this.#dropped = false;
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
        this.#login = true;
        return this.#prompt(frame);
      case "status":
        // `closed` has a frame of its own, which also says why.
        if (frame.status === "closed") return;
        this.#stands(frame.status);
        return this.#line.changed(frame.status, frame.detail);
      case "idle_warning":
        this.#warned = frame.closes_in_ms !== null;
        return this.#view.idle(frame.closes_in_ms);
      case "duration_warning":
        return this.#view.timeUp(frame.closes_in_ms);
      case "lease_warning":
        return this.#view.cutOff(frame.closes_in_ms);
      case "notice":
        this.#notice = frame.message;
        return this.#view.notice(frame.message);
      case "size":
        // With control the page's size is its own: this frame is from before that.
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
        // The `control` frame says how far input was taken.
        return;
      case "alive":
        // Any frame is a sign of life.
        return;
      case "closed":
        return this.#line.closed(frame.reason, frame.exit_status, frame.message);
      case "error":
        return this.#line.refused(frame.message);
    }
  }

  /** Takes note of the session's status: once the login is over, no question of it stands. */
  #stands(status: Status): void {
    this.#login = status === "connecting";
    if (!this.#login) this.#prompt(null);
  }

  #prompt(prompt: Prompt | null): void {
    this.#prompted = prompt !== null;
    this.#view.prompt(prompt);
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
    this.#stands(frame.session.status);
    this.#line.attached(frame.session.status, frame.resumed);
    if (control !== undefined) this.#view.control(control);
    if (unsent > 0) this.#view.unsent(unsent);
    this.#tellSize();
    // After a picture the message would stand in the middle of a program's screen. A new page had nothing to lose.
    if (frame.lost_bytes > 0 && !drawn) this.#view.lost(frame.lost_bytes);
    if (frame.lost_bytes > 0 && drawn && !fresh) this.#view.skipped(frame.lost_bytes);
    this.#input.resume(frame.input_offset);
    this.#flush();
    this.#settleAway();
  }

  /** Takes note that control moved. Input that this page sent meanwhile belongs to an earlier turn and is not
   *  delivered. */
  #moved(control: Control): void {
    const unsent = this.#hold(control);
    if (control.typing) this.#line.send({ type: "typing", turn: control.turn });
    this.#view.control(control);
    if (unsent > 0) this.#view.unsent(unsent);
    // The size is that of the page with control, so the size sent before no longer counts.
    this.#told = { ...this.#size };
    this.#tellSize();
  }

  /** Takes note of who has control; returns how many typed bytes are forgotten because they belong to another turn. */
  #hold({ turn, typing, input_offset }: Control): number {
    const moved = this.#turn !== null && this.#turn !== turn;
    [this.#turn, this.#typing] = [turn, typing];
    if (typing && !moved) return 0;
    const unsent = this.#input.forget(input_offset) + this.#away.take().length;
    this.#view.waiting(null);
    return unsent;
  }

  /** Expects a picture of `picture` bytes, and then output from `offset` on. */
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
      // The attach frame has said how far output is consumed, so an older socket's bytes no longer count.
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

  /** Resets everything that depended on the lost socket. A question stays, with what is half typed into it: the next
   *  socket brings the same one again, or the word that the login is over. */
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
    this.#warned = false;
    this.#view.idle(null);
    this.#view.timeUp(null);
    this.#view.cutOff(null);
    // A gateway for which it still holds sends it again.
    this.#notice = null;
    this.#view.notice(null);
    this.#view.unanswered(false);
    this.#view.watchers([]);
    this.#view.requests([]);
    this.#view.answer(null);
    this.#view.waiting(this.#away.waiting(false));
  }
}
