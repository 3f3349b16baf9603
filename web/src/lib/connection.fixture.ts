// Owns a scripted gateway and a clock that stands still until told, for the tests of a terminal's connection. Knows no promise.
import type { Waiting } from "./away";
import { Connection } from "./connection";
import type { Control, ControlAnswer, ControlRequest, Prompt, Session } from "./protocol";
import type { View } from "./view";
import type { Environment, Lookup, Socket } from "./world";

/** A session that goes on. */
export const SESSION = { id: "s", status: "active", bytes_out: 0, end_reason: null, exit_status: null } as Session;

/** A socket whose other end the test is. */
export class ScriptedSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: unknown[] = [];
  closedWith: number | undefined;

  send(data: string | Uint8Array) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : Uint8Array.from(data));
  }
  close(code?: number) {
    this.closedWith = code;
  }
  control(frame: object) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  output(length: number) {
    this.onmessage?.({ data: new ArrayBuffer(length) });
  }
  attached(offsets: { output?: number; input?: number; lost?: number; picture?: number; control?: Control; session?: Partial<Session> } = {}) {
    this.onopen?.();
    this.control({
      type: "attached",
      session: { ...SESSION, ...offsets.session },
      output_offset: offsets.output ?? 0,
      input_offset: offsets.input ?? 0,
      output_window: 524288,
      ping_interval_ms: 5000,
      resumed: true,
      lost_bytes: offsets.lost ?? 0,
      cols: 80,
      rows: 24,
      screen_bytes: offsets.picture ?? 0,
      control: offsets.control,
    });
  }
  /** The control frames of one type that the page sent. */
  frames(type: string) {
    return this.sent.filter((frame) => (frame as { type?: string }).type === type);
  }
  /** The lengths of the input frames that the page sent. */
  get input(): number[] {
    return this.sent.filter((frame) => frame instanceof Uint8Array).map((frame) => frame.length);
  }
}

/** The time, and what waits for it. */
export let clock: number;
export let timers: { at: number; run: () => void }[];
/** Every socket that was opened. */
export let sockets: ScriptedSocket[];
let answer: () => Promise<Lookup>;
/** What is to be called once written output is parsed. */
export let unparsed: (() => void)[];
/** What the view was told. */
export let seen: {
  lost: number[];
  resets: number;
  prompts: (Prompt | null)[];
  idle: (number | null)[];
  timeUp: (number | null)[];
  notices: (string | null)[];
  waiting: Waiting | null;
  controls: Control[];
  requests: ControlRequest[];
  answers: (ControlAnswer["outcome"] | null)[];
  unsent: number[];
  sizes: number[][];
};
/** What the connection is given. */
export let world: Environment;
export let view: View;
/** A person's, who asked for the terminal. */
export let connection: Connection;

/** The newest socket. */
export const socket = () => sockets.at(-1) as ScriptedSocket;

/** Lets time pass, timer by timer, and promises settle in between. */
export async function pass(ms: number) {
  const end = clock + ms;
  for (;;) {
    await settle();
    const next = timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
    if (next === undefined) break;
    timers.splice(timers.indexOf(next), 1);
    clock = next.at;
    next.run();
  }
  clock = end;
}

/** Lets promises settle, and no time pass. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

/** Parses what is written. */
export function parse() {
  for (const parsed of unparsed.splice(0)) parsed();
}

/** What the gateway answers over HTTP from here on. */
export function answers(next: () => Promise<Lookup>): void {
  answer = next;
}

/** Sets the scene anew, before each test. */
export function begin(): void {
  [clock, timers, sockets, unparsed] = [0, [], [], []];
  seen = { lost: [], resets: 0, prompts: [], idle: [], timeUp: [], notices: [], waiting: null, controls: [], requests: [], answers: [], unsent: [], sizes: [] };
  answer = () => Promise.resolve({ found: SESSION });
  world = {
    open: () => sockets[sockets.push(new ScriptedSocket()) - 1] as Socket,
    lookup: () => answer(),
    after(ms, run) {
      const timer = { at: clock + ms, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    now: () => clock,
    random: () => 0,
    clientId: "page",
    looksOn: false,
  };
  view = {
    write: (_bytes, parsed) => void unparsed.push(parsed),
    reset: () => (seen.resets += 1),
    lost: (bytes) => seen.lost.push(bytes),
    phase: () => {},
    prompt: (prompt) => seen.prompts.push(prompt),
    idle: (ms) => seen.idle.push(ms),
    timeUp: (ms) => seen.timeUp.push(ms),
    notice: (message) => seen.notices.push(message),
    watchers: () => {},
    size: (cols, rows) => seen.sizes.push([cols, rows]),
    waiting: (waiting) => (seen.waiting = waiting),
    control: (control) => seen.controls.push(control),
    requests: (requests) => (seen.requests = requests),
    answer: (given) => seen.answers.push(given?.outcome ?? null),
    unsent: (bytes) => seen.unsent.push(bytes),
  };
  connection = new Connection(world, view);
  connection.resume();
}
