// Owns what a terminal's connection needs from outside: sockets, a clock, random numbers, and lookups. Implements none.
import type { Session } from "./protocol";

/** The part of a browser's WebSocket that is used. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** The result of looking a session up over HTTP; `unsaid`: the gateway answers, but does not say. */
export type Lookup = { found: Session } | "missing" | "unsaid";

/** The outside world of a connection. */
export interface Environment {
  /** Opens a new socket to this session; its `binaryType` is `arraybuffer`. */
  open(): Socket;
  /** Looks the session up over HTTP; rejects if the gateway does not answer. */
  lookup(): Promise<Lookup>;
  /** Calls back once after `ms`; the returned function cancels that. */
  after(ms: number, callback: () => void): () => void;
  now(): number;
  /** A random number, uniform in 0…1. */
  random(): number;
  /** Identifies this page to the gateway; the same after a reload. Known before the first `open()`. */
  clientId: string;
  /** Whether this page only watches. */
  looksOn: boolean;
}
