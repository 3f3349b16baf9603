// Owns the events of a terminal's connection, for its owner. Knows neither sockets nor screens.
import type { Waiting } from "./away";
import type { Control, ControlAnswer, ControlRequest, Prompt, Status } from "./protocol";

/** The owner of a terminal's connection, which receives its events. */
export interface View {
  /** Shows `bytes` and calls `parsed` once they are consumed. */
  write(bytes: Uint8Array, parsed: () => void): void;
  /** The gateway repeats output from an earlier byte: clear the screen first. */
  reset(): void;
  /** This many bytes of output are lost for good. */
  lost(bytes: number): void;
  /** This many bytes of output are lost for good; the picture that comes shows the screen without them. */
  skipped(bytes: number): void;
  phase(phase: Phase): void;
  /** A question of the login, to be answered while attached to a gateway that answers; `null` once it is answered or
   *  the login is over. One that stands while reconnecting comes again with the same id; one of a session that is over
   *  or elsewhere is void. */
  prompt(prompt: Prompt | null): void;
  /** The session closes in this many milliseconds for lack of input; `null` withdraws the warning. */
  idle(closesInMs: number | null): void;
  /** The session closes in this many milliseconds, whatever is typed; `null` if that is no longer known. */
  timeUp(closesInMs: number | null): void;
  /** The gateway closes the session in this many milliseconds, unless it reaches the session store; `null` withdraws it. */
  cutOff(closesInMs: number | null): void;
  /** A notice of the gateway that changes nothing yet; `null` once it no longer holds. */
  notice(message: string | null): void;
  /** Whether the gateway does not answer, though the socket is attached: nothing is sent meanwhile. */
  unanswered(is: boolean): void;
  /** The terminal's size, which the page with control sets while this one watches. */
  size(cols: number, rows: number): void;
  /** The names of the watchers. */
  watchers(names: string[]): void;
  /** Control has moved, or this page has attached. */
  control(control: Control): void;
  /** The open requests for control, for the owner. */
  requests(requests: ControlRequest[]): void;
  /** The outcome of this page's request for control; `null` once it no longer holds. */
  answer(answer: ControlAnswer | null): void;
  /** This many typed bytes were not delivered and never will be: another page has control, or had it meanwhile. */
  unsent(bytes: number): void;
  /** What is typed while disconnected is dropped, not kept, since the login is under way. */
  dropped(): void;
  /** The input typed while disconnected and not sent yet; `asked`: it waits for `release()` or `discard()`. */
  waiting(waiting: Waiting | null): void;
}

/**
 * The phase of a connection.
 *
 * ```text
 * opening ─► attached ⇄ reconnecting ─► closed
 *               └─► superseded, refused      (resume() tries again from all but closed and left)
 * any of these ─► left
 * ```
 */
export type Phase =
  | { kind: "opening" }
  | { kind: "attached"; status: Status; detail: string; resumed: boolean }
  /** `retryAt` is when the next try begins; `null`: now. */
  | { kind: "reconnecting"; retryAt: number | null }
  /** Final. A `null` reason: the session is unknown to the gateway. */
  | { kind: "closed"; reason: string | null; exitStatus: number | null; message: string }
  | { kind: "superseded" }
  | { kind: "refused"; code: number; message: string }
  /** Final: the page has left the connection, and so is not notified. */
  | { kind: "left" };

/** Whether the session may still be reached from this page without being asked to. */
export const goesOn = ({ kind }: Phase): boolean => kind === "opening" || kind === "attached" || kind === "reconnecting";
