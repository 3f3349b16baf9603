// Owns what a terminal's connection needs of the world outside: sockets, a clock, chance, and a way to ask. Knows none.
import type { Session } from "./protocol";

/** The part of a browser's WebSocket that is used. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** What is known of a session over HTTP; `unsaid`: the gateway answers, and does not say. */
export type Lookup = { found: Session } | "missing" | "unsaid";

/** The outside world of a connection. */
export interface Environment {
  /** A new socket to this session; `binaryType` is `arraybuffer`. */
  open(): Socket;
  /** Asks over HTTP; rejects when the gateway does not answer. */
  lookup(): Promise<Lookup>;
  /** Calls back once after `ms`; the result cancels. */
  after(ms: number, callback: () => void): () => void;
  now(): number;
  /** Uniform in 0…1. */
  random(): number;
  /** Names this page towards the gateway; the same after a reload. */
  clientId: string;
  /** Whether this page looks on, and does not type. */
  looksOn: boolean;
}
