// Owns what a terminal's connection tells its owner. Knows neither sockets nor screens.
import type { Waiting } from "./away";
import type { Control, ControlAnswer, ControlRequest, Prompt, Status } from "./protocol";

/** What a terminal's owner is told. */
export interface View {
  /** Shows `bytes` and calls `parsed` once they are consumed. */
  write(bytes: Uint8Array, parsed: () => void): void;
  /** The gateway repeats output from an earlier byte: clear the screen first. */
  reset(): void;
  /** So much output is gone for ever. */
  lost(bytes: number): void;
  phase(phase: Phase): void;
  prompt(prompt: Prompt | null): void;
  /** The session closes in so many milliseconds for want of input; `null` takes the warning back. */
  idle(closesInMs: number | null): void;
  /** The session closes in so many milliseconds, whatever anybody does; `null` where that is not known any more. */
  timeUp(closesInMs: number | null): void;
  /** The gateway has something to say that changes nothing yet; `null` once it no longer holds. */
  notice(message: string | null): void;
  /** The terminal's size is not this page's own, which looks on. */
  size(cols: number, rows: number): void;
  /** Who looks on, by name. */
  watchers(names: string[]): void;
  /** Who types has changed, or this page came. */
  control(control: Control): void;
  /** Who asks the owner to be let type. */
  requests(requests: ControlRequest[]): void;
  /** What became of the wish to type; `null` once that no longer holds. */
  answer(answer: ControlAnswer | null): void;
  /** So many typed bytes were not delivered and never will be: another page types. */
  unsent(bytes: number): void;
  /** What was typed while away and is not sent yet; `asked`: it waits for `release()` or `discard()`. */
  waiting(waiting: Waiting | null): void;
}

/**
 * Where a connection stands.
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
  /** Final: the page is done with it, and so is not told. */
  | { kind: "left" };
