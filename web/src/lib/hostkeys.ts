// Owns the HTTP side of host keys: what is known, what waits, and what somebody decides. Knows no page.
import { request } from "./api";

/** A key in the gateway's known_hosts. Times are RFC 3339 UTC. */
export interface KnownKey {
  id: string;
  /** As it stands there, perhaps hashed. */
  host: string;
  type: string;
  fingerprint: string;
  marker: "@cert-authority" | "@revoked" | null;
  trusted_by: string | null;
  trusted_at: string | null;
  line: number;
}

/** A key that was refused and waits for review. */
export interface WaitingKey {
  id: string;
  host: string;
  port: number;
  target: string;
  type: string;
  fingerprint: string;
  met_by: string;
  first_met_at: string;
  last_met_at: string;
  times: number;
  /** The known keys that it would take the place of; none for a host that is not known. */
  instead_of: KnownKey[];
}

/** Everything about host keys; `known` has at most the first thousand of `known_total`. */
export interface HostKeys {
  known: KnownKey[];
  known_total: number;
  waiting: WaitingKey[];
}

const path = (...parts: string[]) => ["/host-keys", ...parts.map(encodeURIComponent)].join("/");

/** What is known, as far as it contains `q`, and what waits. */
export const hostKeys = (q: string) =>
  request<HostKeys>("GET", q === "" ? "/host-keys" : `/host-keys?${new URLSearchParams({ q })}`);

/** Makes a key that waits the only one of its host; the gateway compares what was seen here with what waits there. */
export const acceptKey = ({ id, fingerprint }: WaitingKey) =>
  request<null>("POST", path("waiting", id, "accept"), { fingerprint });

/** Lets a key wait no longer. */
export const dismissKey = (id: string) => request<null>("DELETE", path("waiting", id));

/** Forgets a known key. */
export const forgetKey = (id: string) => request<null>("DELETE", path(id));

/** A waiting key's host as people write it: the port only where it is not SSH's own. */
export function address({ host, port }: Pick<WaitingKey, "host" | "port">): string {
  if (port === 22) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
