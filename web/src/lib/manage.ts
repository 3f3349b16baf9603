// Owns the HTTP side of managing targets: those of the records, their credentials, and what is valid. Knows no page.
import { request } from "./api";
import type { Role } from "./people";
import type { Target } from "./targets";

/** The ways in which the gateway can sign in to a target of the records, with their labels. */
export const AUTHS = {
  prompt: "By asking the user who opens it",
  password: "With a password kept here",
  private_key: "With a private key kept here",
  certificate: "With a certificate made for each session",
  gateway_key: "With the gateway's own key",
  agent: "With the gateway's SSH agent",
} as const;

/** One of these ways. */
export type AuthKind = keyof typeof AUTHS;

/** A new credential for the gateway to sign in with; it is stored sealed, and never returned. */
export interface NewAuth {
  kind: AuthKind;
  password?: string;
  private_key?: string;
  passphrase?: string;
}

/** The fields of a target that an administrator sets. */
export interface PublicTarget {
  host: string;
  port: number;
  username: string;
  /** Its jump hosts, in the order in which they are dialled. */
  via: string[];
  /** Empty for none. */
  group: string;
  tags: string[];
  roles: Role[];
  /** If left out, the stored credential stays. */
  auth?: NewAuth;
}

const path = (name: string) => `/targets/${encodeURIComponent(name)}`;

/** Adds a target. */
export const addTarget = (target: PublicTarget & { name: string }) => request<Target>("POST", "/targets", target);
/** Changes a target, unless it was changed since `seen` was fetched. */
export const changeTarget = (seen: Target, change: PublicTarget) =>
  request<Target>("PATCH", path(seen.name), { ...change, changed_at: seen.changed_at });
/** Removes a target with its credential; its terminals end. */
export const removeTarget = (name: string) => request<null>("DELETE", path(name));

/** Whether this way of signing in keeps a secret on the gateway. */
export const keepsSecret = (kind: string) => kind === "password" || kind === "private_key";

/** Splits a text at commas and blanks; returns each word once. */
export const wordsOf = (text: string) => [...new Set(text.split(/[\s,]+/).filter(Boolean))];

/** Returns what is wrong with a target's name, as a sentence; "" if nothing is. */
export function targetNameProblem(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return "";
  return "Use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.";
}

/** Returns what is wrong with a target's host, port and login name, as a sentence; "" if nothing is. */
export function placeProblem({ host, port, username }: Pick<PublicTarget, "host" | "port" | "username">): string {
  if (host === "" || /[\s@/]/.test(host)) return "Give a host name or an address, without user and port.";
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return "Give a port from 1 to 65535.";
  return username === "" || /\s/.test(username) ? "Give the login name on the target." : "";
}

/** Returns what is wrong with a new credential, as a sentence; "" if nothing is. */
export function authProblem({ kind, password = "", private_key = "" }: NewAuth): string {
  if (kind === "password" && password === "") return "Give the password, or let the gateway ask the user who opens it.";
  if (kind !== "private_key") return "";
  if (/^\s*(ssh-|ecdsa-)/.test(private_key)) return "This is the public key; paste the private one.";
  return private_key.includes("PRIVATE KEY") || private_key.startsWith("PuTTY") ? "" : "Paste the whole private key, with its first and last line.";
}
