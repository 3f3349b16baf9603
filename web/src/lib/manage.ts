// Owns the HTTP side of managing targets: those of the records, their credentials, and what may stand in them. Knows no page.
import { request } from "./api";
import type { Role } from "./people";
import type { Target } from "./targets";

/** How the gateway signs in to a target that is managed here, as a choice. */
export const AUTHS = {
  prompt: "Ask whoever opens it",
  password: "With a password kept here",
  private_key: "With a private key kept here",
  certificate: "With a certificate made for each session",
  gateway_key: "With the gateway's own key",
  agent: "With the gateway's SSH agent",
} as const;

/** One of these ways. */
export type AuthKind = keyof typeof AUTHS;

/** What is given for the gateway to sign in with; it is sealed, and never given back. */
export interface NewAuth {
  kind: AuthKind;
  password?: string;
  private_key?: string;
  passphrase?: string;
}

/** What one writes of a target. */
export interface Outline {
  host: string;
  port: number;
  username: string;
  /** Its jump hosts, the first one first. */
  via: string[];
  /** Empty for none. */
  group: string;
  tags: string[];
  roles: Role[];
  /** Left out: what is kept stays. */
  auth?: NewAuth;
}

const path = (name: string) => `/targets/${encodeURIComponent(name)}`;

/** Adds a target. */
export const addTarget = (target: Outline & { name: string }) => request<Target>("POST", "/targets", target);
/** Changes a target, unless somebody changed it since it was seen. */
export const changeTarget = (seen: Target, change: Outline) =>
  request<Target>("PATCH", path(seen.name), { ...change, changed_at: seen.changed_at });
/** Removes a target with its credential; its terminals end. */
export const removeTarget = (name: string) => request<null>("DELETE", path(name));

/** Whether this way of signing in keeps a secret on the gateway. */
export const keepsSecret = (kind: string) => kind === "password" || kind === "private_key";

/** The words of a text, each once: between commas and blanks. */
export const wordsOf = (text: string) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];

/** What is wrong with a target's name, as a sentence; "" for nothing. */
export function targetNameProblem(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return "";
  return "Use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.";
}

/** What is wrong with where a target leads, as a sentence; "" for nothing. */
export function placeProblem({ host, port, username }: Pick<Outline, "host" | "port" | "username">): string {
  if (host === "" || /[\s@/]/.test(host)) return "Give a host name or an address, without user and port.";
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return "The port is a number from 1 to 65535.";
  return username === "" || /\s/.test(username) ? "Give the login name on the target." : "";
}

/** What is wrong with what the gateway is to sign in with, as a sentence; "" for nothing. */
export function authProblem({ kind, password = "", private_key = "" }: NewAuth): string {
  if (kind === "password" && password === "") return "Give the password, or let whoever opens it be asked.";
  if (kind !== "private_key") return "";
  if (/^\s*(ssh-|ecdsa-)/.test(private_key)) return "This is the public key; paste the private one.";
  return private_key.includes("PRIVATE KEY") || private_key.startsWith("PuTTY") ? "" : "Paste the whole private key, with its first and last line.";
}
