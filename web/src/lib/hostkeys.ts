// Owns the HTTP side of host keys: the known ones, the waiting ones, and decisions about them. Knows no page.
import { request } from "./api";

/** A key in the gateway's known_hosts. Times are RFC 3339 UTC. */
export interface KnownKey {
  id: string;
  /** The host as written in the file, perhaps hashed. */
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
  /** The known keys that it would replace; empty for an unknown host. */
  instead_of: KnownKey[];
}

/** The known and the waiting host keys; `known` has at most the first thousand of `known_total`. */
export interface HostKeys {
  known: KnownKey[];
  known_total: number;
  waiting: WaitingKey[];
}

/** What each marker of a known key means. */
export const MARKERS: Record<NonNullable<KnownKey["marker"]>, string> = {
  "@cert-authority": "not a host's own key: every host of that name whose key it has signed is trusted",
  "@revoked": "blocked: no host is trusted that shows this key",
};

const path = (...parts: string[]) => ["/host-keys", ...parts.map(encodeURIComponent)].join("/");

/** Returns the known keys that contain `q`, and the waiting ones. */
export const hostKeys = (q: string) =>
  request<HostKeys>("GET", q === "" ? "/host-keys" : `/host-keys?${new URLSearchParams({ q })}`);

/** Makes a waiting key the only one of its host; the gateway refuses if its fingerprint is no longer the one shown
 *  here. */
export const acceptKey = ({ id, fingerprint }: WaitingKey) =>
  request<null>("POST", path("waiting", id, "accept"), { fingerprint });

/** Dismisses a waiting key. */
export const dismissKey = (id: string) => request<null>("DELETE", path("waiting", id));

/** Forgets a known key. */
export const forgetKey = (id: string) => request<null>("DELETE", path(id));

/** Returns a waiting key's host as it is usually written: with the port only if it is not 22. */
export function address({ host, port }: Pick<WaitingKey, "host" | "port">): string {
  if (port === 22) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Returns where OpenSSH keeps the public half of a host's key of this type. */
export function keyFile(type: string): string {
  const kind = ["ed25519", "ecdsa", "rsa"].find((kind) => type.includes(kind)) ?? "*";
  return `/etc/ssh/ssh_host_${kind}_key.pub`;
}
