// Owns a scripted gateway and a manual clock for the tests of a terminal's connection. Knows no test.
import type { Waiting } from "./away";
import { Connection } from "./connection";
import type { Control, ControlAnswer, ControlRequest, Prompt, Session } from "./protocol";
import type { View } from "./view";
import type { Environment, Lookup, Socket } from "./world";

/** An open session. */
export const SESSION = { id: "s", status: "active", bytes_out: 0, end_reason: null, exit_status: null } as Session;

/** A socket whose other end is the test. */
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

/** The current time in milliseconds, and the pending timers. */
export let clock: number;
export let timers: { at: number; run: () => void }[];
/** Every socket that was opened. */
export let sockets: ScriptedSocket[];
let answer: () => Promise<Lookup>;
/** The callbacks of output that was written and is not parsed yet. */
export let unparsed: (() => void)[];
/** The calls that the view received. */
export let seen: {
  lost: number[];
  skipped: number[];
  resets: number;
  prompts: (Prompt | null)[];
  idle: (number | null)[];
  timeUp: (number | null)[];
  cutOff: (number | null)[];
  notices: (string | null)[];
  unanswered: boolean;
  dropped: number;
  waiting: Waiting | null;
  controls: Control[];
  requests: ControlRequest[];
  answers: (ControlAnswer["outcome"] | null)[];
  unsent: number[];
  sizes: number[][];
};
/** The environment and the view of the connection. */
export let world: Environment;
export let view: View;
/** The connection under test, of a user who asked for the terminal. */
export let connection: Connection;

/** The newest socket. */
export const socket = () => sockets.at(-1) as ScriptedSocket;

/** Advances the clock, running each timer that becomes due; promises settle in between. */
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

/** Lets promises settle without advancing the clock. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

/** Parses all written output: calls its callbacks. */
export function parse() {
  for (const parsed of unparsed.splice(0)) parsed();
}

/** Sets the gateway's answer over HTTP from here on. */
export function answers(next: () => Promise<Lookup>): void {
  answer = next;
}

/** Resets everything; runs before each test. */
export function begin(): void {
  [clock, timers, sockets, unparsed] = [0, [], [], []];
  seen = { lost: [], skipped: [], resets: 0, prompts: [], idle: [], timeUp: [], cutOff: [], notices: [], unanswered: false, dropped: 0, waiting: null, controls: [], requests: [], answers: [], unsent: [], sizes: [] };
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
    skipped: (bytes) => seen.skipped.push(bytes),
    phase: () => {},
    prompt: (prompt) => seen.prompts.push(prompt),
    idle: (ms) => seen.idle.push(ms),
    timeUp: (ms) => seen.timeUp.push(ms),
    cutOff: (ms) => seen.cutOff.push(ms),
    notice: (message) => seen.notices.push(message),
    unanswered: (is) => (seen.unanswered = is),
    watchers: () => {},
    size: (cols, rows) => seen.sizes.push([cols, rows]),
    dropped: () => (seen.dropped += 1),
    waiting: (waiting) => (seen.waiting = waiting),
    control: (control) => seen.controls.push(control),
    requests: (requests) => (seen.requests = requests),
    answer: (given) => seen.answers.push(given?.outcome ?? null),
    unsent: (bytes) => seen.unsent.push(bytes),
  };
  connection = new Connection(world, view);
  connection.resume();
}
