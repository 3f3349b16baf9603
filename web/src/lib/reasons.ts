// Owns the sentences for users: one for every end reason, status and error, each saying what to do next.
import { ApiError } from "./api";
import { CLOSE_CODES, type EndReason, type Status } from "./protocol";

/** An explanation: what happened in a few words, and in a full sentence with the next step. */
export interface Explanation {
  short: string;
  sentence: string;
}

const END_REASONS: Record<EndReason, Explanation> = {
  exited: { short: "Shell ended", sentence: "The remote shell ended." },
  user_closed: { short: "Closed by user", sentence: "You closed this terminal." },
  terminated: {
    short: "Ended by an operator",
    sentence: "Someone with the right to do so ended this session. Ask them before you connect again.",
  },
  detach_expired: {
    short: "Browser did not return",
    sentence: "The browser was disconnected for longer than the gateway waits. Reconnect to start a new shell.",
  },
  idle_timeout: { short: "Idle", sentence: "Nothing was typed for too long. Reconnect when you are ready to go on." },
  max_duration: {
    short: "Time limit reached",
    sentence: "The session reached its longest allowed duration. Reconnect to start a new one.",
  },
  peer_lost: {
    short: "Target stopped answering",
    sentence: "The target no longer answers. Check that it runs and is reachable, then reconnect.",
  },
  peer_closed: {
    short: "Target disconnected",
    sentence: "The target closed the connection. If it was restarted, reconnect in a moment.",
  },
  connect_failed: {
    short: "Could not connect",
    sentence: "Could not connect to the target. Check its address and that its SSH server runs.",
  },
  auth_failed: {
    short: "Sign-in refused",
    sentence: "The target refused the sign-in. Check the user name and the password or key, then reconnect.",
  },
  host_key_rejected: {
    short: "Host key not trusted",
    sentence: "The target's host key is not trusted, so nothing was sent. Ask its owner for the right fingerprint.",
  },
  node_lost: {
    short: "Gateway restarted",
    sentence: "The gateway that ran this session stopped. Reconnect to start a new one.",
  },
  fenced: {
    short: "Gateway cut off",
    sentence: "The gateway was cut off and had to end this session. Reconnect to start a new one.",
  },
  revoked: {
    short: "Access withdrawn",
    sentence: "You may no longer use this terminal. If you were signed out, sign in again; if not, ask your administrator.",
  },
  shutdown: { short: "Gateway shut down", sentence: "The gateway was shut down. Reconnect once it is back." },
  actor_failed: {
    short: "Gateway fault",
    sentence: "The gateway had an internal error and ended this session. Reconnect; tell your administrator if it happens again.",
  },
  overloaded: { short: "Gateway full", sentence: "The gateway has no room for this session. Try again in a minute." },
};

const UNKNOWN_END: Explanation = { short: "Ended", sentence: "This session is over. Reconnect to start a new one." };

/** Explains an end; `null` and reasons of a newer gateway get a general sentence. */
export function explainEnd(reason: string | null, exitStatus: number | null): Explanation {
  const known = reason !== null && Object.hasOwn(END_REASONS, reason) ? END_REASONS[reason as EndReason] : UNKNOWN_END;
  if (reason !== "exited" || exitStatus === null || exitStatus === 0) return known;
  return {
    short: `${known.short} (status ${exitStatus})`,
    sentence: `The remote shell ended with exit status ${exitStatus}.`,
  };
}

/** Messages of the gateway that say no more than the sentence of their reason. */
const SAYS_NO_MORE = [
  "This session has ended.",
  "The user closed the terminal.",
  "The gateway was shut down.",
  "Its gateway has lost the right to serve it.",
];

/** Whether the gateway's message says that a host key waits for review: until that is done, to reconnect fails. */
export function keyWaits(reason: string | null, message: string): boolean {
  return reason === "host_key_rejected" && message.includes("under Host keys");
}

/** Reasons whose message is the first sentence with a number in it. */
const SAYS_ALL = ["idle_timeout", "max_duration"];

/** An ending under a terminal; `more` is what the gateway's message adds, and may be empty. */
export interface Ending extends Explanation {
  more: string;
}

/** Explains an end to the session's owner: the gateway's message says who ended it, which may be the owner. */
export function explainOwnEnd(reason: string | null, exitStatus: number | null, message: string, user: string): Ending {
  const end = explainEnd(reason, exitStatus);
  if (reason === "terminated" && message === `ended by ${user}`) {
    return { short: "Ended by you", sentence: "You ended this session from another page. Reconnect to start a new one.", more: "" };
  }
  // The sentence has the exit status already, but not a signal.
  if (SAYS_NO_MORE.includes(message) || (reason === "exited" && exitStatus !== null)) return { ...end, more: "" };
  if (message === "" || !SAYS_ALL.includes(reason ?? "")) return { ...end, more: message };
  return { ...end, sentence: message + end.sentence.slice(end.sentence.indexOf(". ") + 1), more: "" };
}

/** Explains an end to a watcher, who has nothing to reconnect. */
export function explainWatchedEnd(reason: string | null, exitStatus: number | null, message: string): Ending {
  const { short, more } = explainOwnEnd(reason, exitStatus, message, "");
  return { short, sentence: `${short}.`, more };
}

/** Every end reason, for filters and tests. */
export const ALL_END_REASONS = Object.keys(END_REASONS) as EndReason[];

/** The meaning of each status, for its tooltip. */
export const STATUS_MEANING: Record<Status, string> = {
  connecting: "The SSH connection is being made",
  active: "The shell runs and a browser is attached",
  detached: "The shell runs and waits for its browser",
  lost: "Its gateway does not answer, so its state is not known",
  closed: "The session has ended",
};

/** Says why the gateway closed a terminal's socket for good, and what to do; `message` is the gateway's own
 *  sentence. */
export function explainCloseCode(code: number, message = ""): string {
  switch (code) {
    case CLOSE_CODES.protocol:
      return "The gateway did not understand this page. Reload it to get the matching version.";
    case CLOSE_CODES.signIn:
      // Only the gateway knows which right was withdrawn; a user who is signed out altogether sees another page.
      return message || "You may no longer watch this terminal. Ask your administrator if you need to.";
    case CLOSE_CODES.notYours:
      return "This session belongs to someone else. Open one of your own.";
    case CLOSE_CODES.noSuchSession:
      return "This session no longer exists. Reconnect to start a new one.";
    case CLOSE_CODES.slowToAttach:
      return "The connection was too slow to attach. Try again.";
    case CLOSE_CODES.superseded:
      return "This terminal was opened elsewhere. Take it back to go on here.";
    case CLOSE_CODES.frameTooLarge:
      return "The page sent more at once than the gateway accepts. Reload it and try again.";
    case CLOSE_CODES.misdirected:
      // Only the gateway knows which one it is.
      return message || "Another gateway serves this session. Open it there, or try again.";
    case CLOSE_CODES.tooMany:
      return "Too many terminals or requests at once. Close some, wait a moment and try again.";
    default:
      return "The gateway closed this terminal. Try again.";
  }
}

/** Says why a call failed: in the gateway's own words where it gave some. */
export function explainError(error: unknown): string {
  if (!(error instanceof ApiError)) return "Something went wrong in this page. Reload it and try again.";
  if (error.detail !== "") return error.detail;
  switch (error.status) {
    case 401:
      return "You are signed out. Sign in again to go on.";
    case 403:
      return "You are not allowed to do this. Ask your administrator.";
    case 404:
      return "This no longer exists. Reload the page to see what is there now.";
    case 429:
      return "You have too many sessions open. End one and try again.";
    case 503:
      return "The gateway cannot do this right now. Try again in a minute.";
    default:
      return `${error.title}. Try again; tell your administrator if it happens again.`;
  }
}
