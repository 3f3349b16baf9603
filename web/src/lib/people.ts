// Owns the HTTP side of people: users, their roles and grants, tokens, devices, and the audit log. Knows no page.
import { request, type Right } from "./api";

/** The role of a user on this gateway. */
export type Role = "viewer" | "user" | "operator" | "auditor" | "admin";

/** Every role, with a sentence that says what it may and may not do. */
export const ROLES: Record<Role, string> = {
  user: "Opens shells on granted targets, and sees only their own sessions.",
  viewer: "Sees every session and the evidence behind its status; opens none.",
  operator: "Opens shells on granted targets, sees every session, watches and ends those of others, types in them if allowed, and accepts host keys.",
  auditor: "Sees every session, plays every recording and reads the audit log; opens no shells.",
  admin: "May do everything on every target, and manages people.",
};

/** The label of each right; the scopes of a token are rights, too. */
export const RIGHTS: Record<Right, string> = {
  observe: "See every session",
  open: "Open shells on granted targets",
  watch: "Watch other users' terminals",
  terminate: "End other users' sessions",
  replay: "Play other users' recordings",
  audit: "Read the audit log",
  manage: "Manage people",
  trust: "Accept and forget host keys",
  control: "Type in other users' terminals, where that is allowed",
};

/** A user of this gateway. Times are RFC 3339 UTC. */
export interface User {
  name: string;
  role: Role;
  /** Names of targets, `tag:NAME`, `*` or `adhoc:*`. */
  grants: string[];
  disabled: boolean;
  /** Whether they have a second factor. */
  totp: boolean;
  /** Whether they sign in with a provider, and have no password here. */
  provider: boolean;
  created_at: string;
  changed_at: string;
  last_sign_in_at: string | null;
}

/** The changes to a user; fields left out stay as they are. */
export type UserChange = Partial<Pick<User, "role" | "grants" | "disabled"> & { password: string; reset_totp: true }>;

/** A token for programs. */
export interface Token {
  id: string;
  name: string;
  user: string;
  /** `null`: whatever its owner may, at each use. */
  scopes: Right[] | null;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
}

/** The label of each way to sign in. */
export const HOW = {
  password: "by password",
  second_factor: "by password and code",
  token: "by token",
  link: "by link",
  set_up: "by set-up link",
  oidc: "by provider",
} as const;

/** A browser that a user is signed in with. */
export interface Device {
  id: string;
  client_ip: string;
  user_agent: string;
  how: keyof typeof HOW;
  signed_in_at: string;
  last_used_at: string;
  current: boolean;
}

/** The actions in the audit log, as the gateway spells them. */
export const ACTIONS = [
  "sign_in",
  "sign_out",
  "origin.refused",
  "session.open",
  "session.connect",
  "session.terminate",
  "session.end",
  "session.attach",
  "session.control",
  "recording.read",
  "recording.seal",
  "target.host_key_refused",
  "target.channel_refused",
  "host_key.accept",
  "host_key.dismiss",
  "host_key.forget",
  "target.test",
  "target.create",
  "target.change",
  "target.remove",
  "seal.rotate",
  "user.create",
  "user.change",
  "user.remove",
  "user.password",
  "user.second_factor",
  "user.link",
  "token.create",
  "token.revoke",
  "device.sign_out",
  "store.sweep",
  "store.repair",
  "node.confirm_dead",
  "gateway.start",
  "gateway.stop",
  "gateway.reload",
  "gateway.drain",
  "webhook.give_up",
  "audit.lost",
] as const;

/** One line of the audit log. */
export interface Entry {
  seq: number;
  at: string;
  actor: string;
  client_ip: string | null;
  action: string;
  subject: string | null;
  outcome: "ok" | "refused";
  detail: unknown;
}

/** The filters of the audit log; empty texts match everything. */
export interface AuditQuery {
  actor: string;
  action: string;
  since: string;
  until: string;
  limit: number;
  cursor: string;
}

const path = (...parts: string[]) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");

/** Returns all users. */
export const users = async () => (await request<{ items: User[] }>("GET", "/users")).items;
/** Adds a user; a user without a password sets their own by a link. */
export const addUser = (user: Pick<User, "name" | "role" | "grants"> & { password?: string }) =>
  request<User>("POST", "/users", user);
/** Changes a user; terminals that they may no longer use end. */
export const changeUser = (name: string, change: UserChange) => request<User>("PATCH", path("users", name), change);
/** Returns what is different from `user`; what is left out stays as somebody else may have changed it meanwhile. */
export function changesOf(user: User, { role, grants }: Pick<User, "role" | "grants">): UserChange {
  const isSame = grants.length === user.grants.length && grants.every((grant, nth) => grant === user.grants[nth]);
  return { ...(role === user.role ? {} : { role }), ...(isSame ? {} : { grants }) };
}
/** Removes a user, with all their ways to sign in. */
export const removeUser = (name: string) => request<null>("DELETE", path("users", name));
/** Changes the signed-in user's password; signs out their other devices. */
export const changePassword = (current: string, next: string) =>
  request<null>("POST", "/me/password", { current, new: next });

/** Creates a one-time link with which a user sets their own password; an older link becomes void. */
export async function makeLink(name: string): Promise<{ url: string; expires_at: string }> {
  const made = await request<{ path: string; expires_at: string }>("POST", `${path("users", name)}/link`);
  return { url: location.origin + made.path, expires_at: made.expires_at };
}

/** Creates the secret of a second factor; nothing changes until a code confirms it. */
export const beginSecondFactor = (password: string) =>
  request<{ secret: string; uri: string }>("POST", "/me/totp", { password });
/** Turns the second factor on and returns the recovery codes, which are returned only this once. */
export const confirmSecondFactor = async (code: string) =>
  (await request<{ recovery_codes: string[] }>("POST", "/me/totp/confirm", { code })).recovery_codes;
/** Turns off the signed-in user's second factor. */
export const removeSecondFactor = (password: string) => request<null>("DELETE", "/me/totp", { password });

/** Returns the signed-in user's tokens. */
export const tokens = async () => (await request<{ items: Token[] }>("GET", "/tokens")).items;
/** Creates a token; its secret is returned only this once. Without scopes it has all rights of its owner. */
export const makeToken = (token: { name: string; scopes?: Right[]; expires_in?: string }) =>
  request<Token & { token: string }>("POST", "/tokens", token);
/** Revokes a token. */
export const revokeToken = (id: string) => request<null>("DELETE", path("tokens", id));

/** Returns the browsers that the user is signed in with. */
export const devices = async () => (await request<{ items: Device[] }>("GET", "/devices")).items;
/** Signs one browser out. */
export const signOutDevice = (id: string) => request<null>("DELETE", path("devices", id));
/** Signs every browser out, this one too. */
export const signOutEverywhere = () => request<null>("DELETE", "/devices");

/** Returns entries of this node's audit log, newest first. */
export function audit(query: AuditQuery): Promise<{ items: Entry[]; next_cursor: string | null }> {
  const values = new URLSearchParams({ limit: String(query.limit) });
  for (const key of ["actor", "action", "since", "until", "cursor"] as const) {
    if (query[key] !== "") values.set(key, query[key]);
  }
  return request("GET", `/audit?${values}`);
}

// No letters or digits that look alike: people read passwords out to each other.
const ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const GENERATED_CHARACTERS = 20;

/** Returns a password of 20 characters, some 115 bits, from the browser's own random source. */
export function generatePassword(): string {
  let password = "";
  while (password.length < GENERATED_CHARACTERS) {
    const [byte = 255] = crypto.getRandomValues(new Uint8Array(1));
    // Larger bytes would make the first letters likelier.
    if (byte < 256 - (256 % ALPHABET.length)) password += ALPHABET.charAt(byte % ALPHABET.length);
  }
  return password;
}

/** The bounds of a password, in characters. */
export const PASSWORD_CHARACTERS = { min: 12, max: 1024 };

/** Returns what is wrong with a password, as a sentence; "" if nothing is. */
export function passwordProblem(password: string): string {
  const length = [...password].length;
  if (length < PASSWORD_CHARACTERS.min) return `Use at least ${PASSWORD_CHARACTERS.min} characters; a few words will do.`;
  return length > PASSWORD_CHARACTERS.max ? `Use at most ${PASSWORD_CHARACTERS.max} characters.` : "";
}

/** The name of whoever signs in with the gateway's own token; no user has it. */
export const TOKEN_HOLDER = "admin";

/** Returns what is wrong with a user's name, as a sentence; "" if nothing is. */
export function nameProblem(name: string): string {
  if (name === TOKEN_HOLDER) return "The name admin belongs to the holder of the gateway's own token. Choose another one.";
  if (/^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name)) return "";
  return "Use 1 to 64 of a-z, 0-9 and . _ - @, beginning with a letter or digit.";
}

/** Returns what is wrong with a grant, as a sentence; "" if nothing is. */
export function grantProblem(grant: string): string {
  if (grant === "*" || grant === "adhoc:*" || /^tag:\S+$/.test(grant) || /^[A-Za-z0-9._-]{1,64}$/.test(grant)) return "";
  return "Write a target's name, tag:NAME, * for the whole catalogue, or adhoc:* for hosts typed by hand.";
}
