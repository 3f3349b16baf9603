// Owns the words and the order of the evidence behind a session's status. Knows no page.
import { duration } from "./text";

/** The names of evidence whose key does not say it plainly. */
const LABELS: Record<string, string> = {
  browser_heard_at: "browser heard",
  last_pong_at: "browser answered",
  watchers_heard_at: "watchers heard",
  peer_heard_at: "target heard",
  last_reply_at: "target answered",
  last_input_at: "last typed",
  last_byte_in_at: "last input",
  controlled_by: "in control",
  owner: "node",
  renewed_at: "lease renewed",
  silent_ms: "silent for",
  serve_for_ms: "may serve for",
};

/** What happens at each deadline, with the time left. */
const DEADLINES: Record<string, (left: string) => string> = {
  login_limit: (left) => `Is closed in ${left} unless the login is done by then.`,
  exited: (left) => `Is closed within ${left}: the shell has ended.`,
  detached: (left) => `Counts as detached in ${left} unless a browser comes.`,
  browser_lost: (left) => `The browser counts as gone in ${left} unless it answers.`,
  peer_lost: (left) => `Is closed in ${left} unless the target answers.`,
  detach_expired: (left) => `Is closed in ${left} unless a browser comes back.`,
  idle_timeout: (left) => `Is closed in ${left} unless something is typed.`,
  max_duration: (left) => `Is closed in ${left}, at its longest duration.`,
  fenced: (left) => `Is closed in ${left} unless its gateway renews its lease.`,
  owner_lost: (left) => `Counts as lost in ${left} unless its gateway answers.`,
  owner_fenced: (left) => `Is closed in ${left} unless its gateway answers.`,
};

/** Transitions at the beginning of a history, behind which a gateway leaves out some of a long one. */
const FIRST = 50;

type Values = Record<string, unknown>;

/** The evidence in the order in which it is read. */
export interface Arranged {
  /** The status and its basis, in plain sentences. */
  proof: string;
  /** The signs of life, the deadlines and the history. */
  signs: Values;
  /** What the gateway keeps about itself, and whatever a newer one adds. */
  gateway: Values;
  record: Values;
}

/** Returns the name of a key in plain words. */
export function label(key: string): string {
  return Object.hasOwn(LABELS, key) ? (LABELS[key] ?? key) : key.replace(/_(ms|at)$/, "").replaceAll("_", " ");
}

/** Arranges an answer of `GET …/why`; what is unknown or empty is left out. */
export function arrange(answer: object): Arranged {
  const { session, proof, deadlines, history, history_left_out, owner_state, owner, epoch, ...rest } = answer as Values;
  const { browser_heard_at, last_pong_at, watchers_heard_at, peer_heard_at, last_reply_at, ...told } = rest;
  const { last_input_at, last_byte_in_at, last_output_at, controlled_by, ...others } = told;
  const heard = { browser_heard_at, last_pong_at, watchers_heard_at, peer_heard_at, last_reply_at };
  const bytes = { last_input_at, last_byte_in_at, last_output_at };
  const { own: _, epoch: now, ...state } = { ...(owner_state as Values | null) };
  const armed = Array.isArray(deadlines) ? deadlines.map(deadline) : [];
  return {
    proof: String(proof ?? ""),
    signs: known({ ...heard, ...bytes, controlled_by, deadlines: armed, history: whole(history, history_left_out) }),
    gateway: known({ owner, epoch, its_epoch_now: now === epoch ? null : now, ...state, ...others }),
    record: known({ ...(session as Values) }),
  };
}

function deadline({ what, left_ms }: { what: string; left_ms: number }): string {
  const left = duration(left_ms);
  return Object.hasOwn(DEADLINES, what) ? (DEADLINES[what]?.(left) ?? "") : `${label(what)} in ${left}`;
}

/** Returns a history with the number of those left out in their place. */
function whole(history: unknown, left_out: unknown): unknown {
  if (!Array.isArray(history) || typeof left_out !== "number" || left_out === 0) return history;
  return [...history.slice(0, FIRST), `${left_out.toLocaleString()} more, left out here`, ...history.slice(FIRST)];
}

function known(values: Values): Values {
  const isKnown = (v: unknown) => v !== null && v !== undefined && v !== "" && !(Array.isArray(v) && v.length === 0);
  return Object.fromEntries(Object.entries(values).filter(([, v]) => isKnown(v)));
}
