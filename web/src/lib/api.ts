// Owns the HTTP side of the gateway: every call the page makes, and the one error they fail with.
import type { Destination } from "./destination";
import type { Node, Session, Status } from "./protocol";
import { SUBPROTOCOL } from "./protocol";
import type { Target, Trial } from "./targets";
import type { Lookup } from "./world";

const BASE = "/api/v1";
/** Longer than a slow open takes, shorter than a person's patience; a dead network answers nothing by itself. */
const TIMEOUT_MS = 15_000;

/** Why a call failed: what the gateway answered (RFC 9457), or status 0 if it did not answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** Seconds until another try makes sense, where the gateway said so. */
    readonly retryAfter: number | null = null,
    /** The problem's type, as `second-factor`; empty where there is none. */
    readonly kind = "",
  ) {
    super(detail || title);
  }

  /** Whether the gateway itself answered: 502 and 504 are a proxy's words. */
  get isAnswer(): boolean {
    return ![0, 502, 504].includes(this.status);
  }

  /** Whether the same call may succeed a little later, with nothing changed: no answer, or a gateway or proxy that says so. */
  get mayPass(): boolean {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/** An answer began and ended too soon: the network failed, or what the gateway read from. */
export class BrokeOff extends ApiError {
  constructor() {
    super(0, "Broke off", "The recording broke off on its way. The rest is asked for again.");
  }
}

/** What a person may do beyond their own sessions. */
export type Right = "observe" | "open" | "watch" | "terminate" | "replay" | "audit" | "manage" | "trust" | "control";

/** The person signed in, and what this gateway offers them. */
export interface Me {
  user: string;
  role: string;
  rights: Right[];
  /** Whether this gateway keeps a password of theirs, which they may change. */
  local: boolean;
  second_factor: {
    on: boolean;
    /** Whether nothing else works until it is on. */
    required: boolean;
    /** How many recovery codes are left. */
    recovery_codes: number;
  };
  demo: boolean;
  adhoc: boolean;
  version: string;
}

/** One page of sessions; `degraded` names the stores that are down. */
export interface SessionPage {
  items: Session[];
  next_cursor: string | null;
  as_of: string;
  degraded: string[];
}

/** Which sessions to list; `limit` is 1…500. */
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
  // Some answers (202, 204) carry no body, and a proxy's error page is not JSON.
  return (await response.json().catch(() => null)) as T;
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  return fetch(BASE + path, init).catch(unanswered);
}

function unanswered(): never {
  throw new ApiError(0, "No answer", "The gateway does not answer. Check your network, then try again.");
}

async function problem(path: string, response: Response): Promise<ApiError> {
  const { status, headers } = response;
  // First, so that a page that goes shows no error before.
  if (status === 401 && path !== "/me" && !path.startsWith("/login")) await checkSignIn();
  const answer: unknown = await response.json().catch(() => null);
  const fields = (typeof answer === "object" && answer !== null ? answer : {}) as Record<string, unknown>;
  const text = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  const retryAfter = headers.get("retry-after");
  const wait = retryAfter !== null && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : null;
  const kind = text("type").replace(/^\/problems\//, "");
  return new ApiError(status, text("title") || `Error ${status}`, text("detail"), wait, kind);
}

/** Who is signed in; an error of status 401 means nobody. */
export const me = () => request<Me>("GET", "/me");

/** Hears who is signed in, or with the error that nobody is, and why as far as that is known. */
type Listener = (who: Me | ApiError, why: string) => void;
let tellWho: Listener = () => undefined;

/** Names the one who hears what comes of `checkSignIn()`. */
export function onSignIn(tell: Listener): void {
  tellWho = tell;
}

/** Something was refused, or taken away, for want of a sign-in or of a right: asks who is signed in here. */
export async function checkSignIn(why = ""): Promise<void> {
  await me().then(
    (found) => tellWho(found, why),
    (error: unknown) => error instanceof ApiError && error.status === 401 && tellWho(error, why),
  );
}

/** What one signs in with. */
export type Credentials = { username: string; password: string; code?: string } | { token: string };

/** Trades credentials for the session cookie. */
export const login = (credentials: Credentials) => request<null>("POST", "/login", credentials);

/** What people call the provider that signs them in here; `null` where none does. */
export const provider = async () => (await request<{ provider: { name: string } | null }>("GET", "/login")).provider?.name ?? null;

/** Begins a sign-in with the provider; returns where to send the browser. */
export const beginWithProvider = async () => (await request<{ url: string }>("POST", "/login/oidc")).url;

/** What a browser comes back with from the provider. */
export interface Returned {
  state: string;
  code?: string;
  iss?: string;
  error?: string;
}

/** Trades what the browser came back with for the session cookie. */
export const finishWithProvider = (returned: Returned) => request<null>("POST", "/login/oidc/finish", returned);

/** Whose link this is: a user's, or with `null` the first admin's. It is not used up by asking. */
export const linkHolder = async (secret: string) => (await request<{ user: string | null }>("POST", "/setup", { secret })).user;

/** Uses a link up: sets the password of its user, or makes the first admin, whose name is to be given. */
export const useLink = (secret: string, password: string, username?: string) =>
  request<{ user: string; signed_in: boolean }>("POST", "/setup", { secret, password, username });

/** Gives the session cookie back. */
export const logout = () => request<null>("POST", "/logout");

/** What this person may open. */
export const targets = () => request<{ items: Target[]; adhoc: boolean }>("GET", "/targets");

/** Tries a target out, step by step; opens no session. */
export const testTarget = (name: string) => request<Trial>("POST", `/targets/${encodeURIComponent(name)}/test`);

/** The gateway's own public keys, as lines for files of a target. */
export const gatewayKey = () => request<{ key: string; authority: string }>("GET", "/gateway-key");

/** Opens a session; it is durable when this returns, and dials when a terminal attaches. */
export const openSession = (destination: Destination) => request<Session>("POST", "/sessions", destination);

/** One session. */
export const session = (id: string) => request<Session>("GET", `/sessions/${encodeURIComponent(id)}`);

/** What is known of a session; rejects where the gateway does not answer, or what answers in its place speaks no JSON. */
export async function lookup(id: string): Promise<Lookup> {
  try {
    const found: Session | null = await session(id);
    return found === null ? unanswered() : { found };
  } catch (error) {
    if (!(error instanceof ApiError) || !error.isAnswer) throw error;
    return error.status === 404 ? "missing" : "unsaid";
  }
}

/** Ends a session, wherever it runs. */
export const endSession = (id: string) => request<null>("DELETE", `/sessions/${encodeURIComponent(id)}`);

/** The evidence behind a session's status, and the session. Its keys grow over time: show what comes. */
export const why = (id: string) => request<{ session: Session }>("GET", `/sessions/${encodeURIComponent(id)}/why`);

/** Lists sessions, newest first. */
export function sessions(query: SessionQuery): Promise<SessionPage> {
  const values = new URLSearchParams({ limit: String(query.limit) });
  for (const status of query.status) values.append("status", status);
  if (query.q !== "") values.set("q", query.q);
  return request("GET", `/sessions?${values}`);
}

/** The gateways that share the stores, the one that answers first. */
export const nodes = async () => (await request<{ nodes: Node[] }>("GET", "/nodes")).nodes;

const recordingPath = (id: string) => `/sessions/${encodeURIComponent(id)}/recording`;

/** Where a session's recording is, to be downloaded as it is. */
export const recordingUrl = (id: string) => BASE + recordingPath(id);

/** The recording's bytes from `from` on, piece by piece as they come; nothing where there are none yet. Rejects with
 *  `BrokeOff` where the rest of an answer does not come. */
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

/** The stream of every transition; see `LiveSessions` for its events. */
export const events = () => new EventSource(`${BASE}/events`);

/** The terminal socket of a session. */
export function terminalSocket(id: string): WebSocket {
  const url = new URL(`${BASE}/sessions/${encodeURIComponent(id)}/terminal`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, SUBPROTOCOL);
  socket.binaryType = "arraybuffer";
  return socket;
}
