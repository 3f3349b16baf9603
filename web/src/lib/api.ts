// Owns the HTTP side of the gateway: every call the page makes, and the one error they fail with.
import type { Destination } from "./destination";
import type { Node, Session, Status } from "./protocol";
import { SUBPROTOCOL } from "./protocol";
import type { Target, Trial } from "./targets";
import type { Lookup } from "./world";

const BASE = "/api/v1";
/** Time limit of a call, since a dead network gives no error itself: longer than a slow open and than the 15 s that the
 *  gateway waits for its records, or an answer that comes late would count as none. */
const TIMEOUT_MS = 20_000;

/** The error of a failed call: the gateway's answer (RFC 9457), or status 0 if it did not answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** Seconds to wait before the next try; `null` if the gateway gave none. */
    readonly retryAfter: number | null = null,
    /** The problem's type, as `second-factor`; empty where there is none. */
    readonly kind = "",
  ) {
    super(detail || title);
  }

  /** Whether the gateway itself answered: 502 and 504 come from a proxy in front of it. */
  get isAnswer(): boolean {
    return ![0, 502, 504].includes(this.status);
  }

  /** Whether the same call may succeed later unchanged: there was no answer, or its status is a temporary one. */
  get mayPass(): boolean {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/** The error of an answer that ended too soon: the network failed, or the gateway could not read on. */
export class BrokeOff extends ApiError {
  constructor() {
    super(0, "Interrupted", "Loading the recording was interrupted. This page tries again by itself.");
  }
}

/** A right of a role or of a token. */
export type Right = "observe" | "open" | "watch" | "terminate" | "replay" | "audit" | "manage" | "trust" | "control";

/** The signed-in user, and what this gateway offers them. */
export interface Me {
  user: string;
  role: string;
  rights: Right[];
  /** Whether this gateway keeps a password of theirs, which they can change. */
  local: boolean;
  second_factor: {
    on: boolean;
    /** Whether everything else is refused until it is on. */
    required: boolean;
    /** Unused recovery codes. */
    recovery_codes: number;
  };
  demo: boolean;
  adhoc: boolean;
  version: string;
}

/** One page of sessions; `degraded` names the stores that are down or behind. */
export interface SessionPage {
  items: Session[];
  next_cursor: string | null;
  as_of: string;
  degraded: string[];
}

/** The filters of a listing; `limit` is 1…500. */
export interface SessionQuery {
  status: Status[];
  q: string;
  limit: number;
}

/** Calls the gateway: `path` below the API, `body` as JSON; rejects with an `ApiError`. */
export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const response = await ask(path, init);
  if (!response.ok) throw await problem(path, response);
  // Only a 204 has no body: a page of a proxy's is no answer, whatever its status.
  return (response.status === 204 ? null : await response.json().catch(unanswered)) as T;
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  return fetch(BASE + path, init).catch(unanswered);
}

function unanswered(): never {
  throw new ApiError(0, "No answer", "The gateway does not answer. Check your network, then try again.");
}

async function problem(path: string, response: Response): Promise<ApiError> {
  const { status, headers } = response;
  // Before the error is returned, so that a page whose user is signed out does not show it first.
  if (status === 401 && path !== "/me" && !path.startsWith("/login")) await checkSignIn();
  const answer: unknown = await response.json().catch(() => null);
  const fields = (typeof answer === "object" && answer !== null ? answer : {}) as Record<string, unknown>;
  const text = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  const retryAfter = headers.get("retry-after");
  const wait = retryAfter !== null && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : null;
  const kind = text("type").replace(/^\/problems\//, "");
  return new ApiError(status, text("title") || `Error ${status}`, text("detail"), wait, kind);
}

/** Returns the signed-in user; rejects with status 401 if nobody is signed in. */
export const me = () => request<Me>("GET", "/me");

/** Receives the signed-in user, or the error that nobody is signed in, and the reason as far as it is known. */
type Listener = (who: Me | ApiError, why: string) => void;
let tellWho: Listener = () => undefined;

/** Sets the listener that receives the results of `checkSignIn()`. */
export function onSignIn(tell: Listener): void {
  tellWho = tell;
}

/** Asks who is signed in, after something was refused or withdrawn for lack of a sign-in or a right. */
export async function checkSignIn(why = ""): Promise<void> {
  await me().then(
    (found) => tellWho(found, why),
    (error: unknown) => error instanceof ApiError && error.status === 401 && tellWho(error, why),
  );
}

/** The credentials of a sign-in. */
export type Credentials = { username: string; password: string; code?: string } | { token: string };

/** Exchanges credentials for the session cookie. */
export const login = (credentials: Credentials) => request<null>("POST", "/login", credentials);

/** Returns the display name of the sign-in provider; `null` if there is none. */
export const provider = async () => (await request<{ provider: { name: string } | null }>("GET", "/login")).provider?.name ?? null;

/** Begins a sign-in with the provider; returns the address to send the browser to. */
export const beginWithProvider = async () => (await request<{ url: string }>("POST", "/login/oidc")).url;

/** The parameters with which the provider sends the browser back. */
export interface Returned {
  state: string;
  code?: string;
  iss?: string;
  error?: string;
}

/** Exchanges these parameters for the session cookie. */
export const finishWithProvider = (returned: Returned) => request<null>("POST", "/login/oidc/finish", returned);

/** Returns the user of a one-time link; `null` for the first admin's. Asking does not use the link up. */
export const linkHolder = async (secret: string) => (await request<{ user: string | null }>("POST", "/setup", { secret })).user;

/** Uses a one-time link: sets its user's password, or creates the first admin, who needs a `username`. */
export const useLink = (secret: string, password: string, username?: string) =>
  request<{ user: string; signed_in: boolean }>("POST", "/setup", { secret, password, username });

/** Signs out: the session cookie becomes void. Returns the address at which to sign out at the provider, too, and the
 *  error after which nobody is signed in all the same. Rejects with an `ApiError` while the cookie may still be valid. */
export async function logout(): Promise<{ url: string | null; error: ApiError | null }> {
  try {
    const next = await request<{ url: string } | null>("POST", "/logout");
    return { url: next?.url ?? null, error: null };
  } catch (error) {
    if (error instanceof ApiError && error.isAnswer && (await isNobody())) return { url: null, error };
    throw error;
  }
}

/** Whether the gateway says that nobody is signed in. */
const isNobody = () => me().then(() => false, (error: unknown) => error instanceof ApiError && error.status === 401);

/** Returns the targets that this user may open. */
export const targets = () => request<{ items: Target[]; adhoc: boolean }>("GET", "/targets");

/** Tests a target step by step; opens no session. */
export const testTarget = (name: string) => request<Trial>("POST", `/targets/${encodeURIComponent(name)}/test`);

/** Returns the gateway's own public keys, as lines for files on a target. */
export const gatewayKey = () => request<{ key: string; authority: string }>("GET", "/gateway-key");

/** Opens a session; it is durable when this returns, and dials when a terminal attaches. */
export const openSession = (destination: Destination) => request<Session>("POST", "/sessions", destination);

/** Returns one session. */
export const session = (id: string) => request<Session>("GET", `/sessions/${encodeURIComponent(id)}`);

/** Looks a session up; rejects if the gateway does not answer, or if what answers in its place sends no JSON. */
export async function lookup(id: string): Promise<Lookup> {
  try {
    return { found: await session(id) };
  } catch (error) {
    if (!(error instanceof ApiError) || !error.isAnswer) throw error;
    return error.status === 404 ? "missing" : "unsaid";
  }
}

/** Ends a session, on whichever gateway it runs. */
export const endSession = (id: string) => request<null>("DELETE", `/sessions/${encodeURIComponent(id)}`);

/** Returns the evidence behind a session's status, and the session. Later gateways may add keys: show all of them. */
export const why = (id: string) => request<{ session: Session }>("GET", `/sessions/${encodeURIComponent(id)}/why`);

/** Lists sessions, newest first. */
export function sessions(query: SessionQuery): Promise<SessionPage> {
  const values = new URLSearchParams({ limit: String(query.limit) });
  for (const status of query.status) values.append("status", status);
  if (query.q !== "") values.set("q", query.q);
  return request("GET", `/sessions?${values}`);
}

/** Returns the gateways that share the stores; the first is the one that answers. */
export const nodes = async () => (await request<{ nodes: Node[] }>("GET", "/nodes")).nodes;

const recordingPath = (id: string) => `/sessions/${encodeURIComponent(id)}/recording`;

/** Returns the address from which a session's recording can be downloaded. */
export const recordingUrl = (id: string) => BASE + recordingPath(id);

/** Yields the recording's bytes from offset `from` on, as they arrive; none if there are none yet. Rejects with
 *  `BrokeOff` if an answer ends before it is complete. */
export async function* recording(id: string, from: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const init: RequestInit = { credentials: "same-origin", headers: { range: `bytes=${from}-` }, signal };
  const response = await ask(recordingPath(id), init);
  if (response.status === 416) return;
  if (!response.ok) throw await problem(recordingPath(id), response);
  const reader = response.body?.getReader();
  const next = () =>
    reader?.read().catch(() => {
      throw new BrokeOff();
    });
  for (let read = await next(); read?.value !== undefined; read = await next()) yield read.value;
}

/** Opens the stream of every transition; see `LiveSessions` for its events. */
export const events = () => new EventSource(`${BASE}/events`);

/** Opens the terminal socket of a session. */
export function terminalSocket(id: string): WebSocket {
  const url = new URL(`${BASE}/sessions/${encodeURIComponent(id)}/terminal`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, SUBPROTOCOL);
  socket.binaryType = "arraybuffer";
  return socket;
}

/** Whether `me` may replay the recording of `session`, if it has one with anything on it. */
export function mayReplay(me: Me, session: Session): boolean {
  const own = session.username === me.user;
  return session.recorded && session.bytes_out > 0 && (own || me.rights.includes("replay"));
}
