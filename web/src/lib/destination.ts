// Owns how a place to connect to is written: a name of the catalogue, or `user@host[:port]`. Knows no network.

/** What `POST /api/v1/sessions` takes. */
export type Destination = { target: string } | { username: string; host: string; port: number };

const SSH_PORT = 22;
const HAND_TYPED = /^([^@\s:/]+)@(\[[0-9A-Fa-f:.]+\]|[^\s:@[\]/]+)(?::(\d{1,5}))?$/;

/** Reads `user@host`, `user@host:port` or `user@[ipv6]:port`; otherwise a sentence that says what is missing. */
export function parseHandTyped(text: string): { destination: Destination } | { problem: string } {
  const typed = text.trim();
  if (typed === "") return { problem: "Type where to connect, for example admin@10.0.0.5." };
  if (!typed.includes("@")) {
    return { problem: `Put the login name first, for example root@${typed.replace(/\s+/g, "")}.` };
  }
  const [, username, host, digits] = HAND_TYPED.exec(typed) ?? [];
  if (username === undefined || host === undefined) {
    return { problem: "Write it as user@host or user@host:port; an IPv6 address goes in [brackets]." };
  }
  const port = digits === undefined ? SSH_PORT : Number(digits);
  if (port < 1 || port > 65535) return { problem: `Port ${digits} is out of range; use 1 to 65535.` };
  return { destination: { username, host: host.replace(/^\[|\]$/g, ""), port } };
}

/** The destination of a session that exists already, from its `target`. */
export function destinationOf(target: string): Destination {
  const parsed = target.includes("@") ? parseHandTyped(target) : undefined;
  return parsed !== undefined && "destination" in parsed ? parsed.destination : { target };
}
