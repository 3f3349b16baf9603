// Owns how a destination is written: a name of the catalogue, `user@host[:port]`, or an `ssh` command line. Knows no
// network.

/** The body of `POST /api/v1/sessions`. */
export type Destination = { target: string } | { username: string; host: string; port: number; via?: string[] };

/** A destination, or a sentence that says what to write instead. */
export type Parsed = { destination: Destination } | { problem: string };

const SSH_PORT = 22;
const HAND_TYPED = /^([^@\s:/]+)@(\[[0-9A-Fa-f:.]+\]|[^\s:@[\]/]+)(?::(\d{1,5}))?$/;

/**
 * Parses `user@host`, `user@host:port`, `user@[ipv6]:port`, or a pasted line such as `ssh -p 2201 user@host` and
 * `ssh://user@host:port`, where the host may also be one of `names`, and so may those after `-J`; otherwise returns a
 * sentence that says what is missing.
 */
export function parseHandTyped(text: string, names: readonly string[] = []): Parsed {
  const typed = text.trim();
  if (typed === "") return { problem: "Type where to connect, for example admin@10.0.0.5." };
  if (/^ssh:\/\//i.test(typed)) return parsePlace(typed.slice("ssh://".length).replace(/\/$/, ""));
  if (/^ssh(\s|$)/i.test(typed)) return parseSshLine(typed.split(/\s+/).slice(1).map(bare), names);
  return names.includes(typed) ? { destination: { target: typed } } : parsePlace(typed);
}

/** Returns the destination of an existing session, from its `target`. */
export function destinationOf(target: string): Destination {
  const [typed = "", hops] = target.split(" via ");
  const parsed = typed.includes("@") ? parsePlace(typed) : undefined;
  if (parsed === undefined || !("destination" in parsed)) return { target };
  return hops === undefined ? parsed.destination : { ...parsed.destination, via: hops.split(", ") };
}

function parsePlace(typed: string): Parsed {
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

/** Options of ssh(1) that change nothing here: verbosity, compression, a terminal, forwarding turned off. */
const HARMLESS = /^-[aCkqtvx]+$/;

/** Options that take a value. */
const VALUED = "BbcDEeFIiJLlmOoPpQRSWw";

/** Options that mean something the gateway cannot do, and what to do instead; by their `-o` names too. */
const REFUSED: Record<string, string> = {
  W: "Name the jump host with -J: a target, or user@host.",
  i: "A key file on your machine is out of the gateway's reach. Leave -i out; the gateway asks you for what the target needs.",
  L: "Forwarded ports (-L, -R, -D) are not supported. Leave them out to open a terminal.",
};
const SAME_AS: Record<string, string> = { proxycommand: "W", identityfile: "i", R: "L", D: "L" };

/** Removes the quotes around a word, which were meant for a shell. */
const bare = (word: string) => word.replace(/^(["'])(.*)\1$/, "$2");

function parseSshLine(words: string[], names: readonly string[]): Parsed {
  const line: CommandLine = {};
  // Options may stand behind the place, too.
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (HARMLESS.test(word) || word === "--") continue;
    if (!word.startsWith("-")) {
      if (line.place !== undefined) return { problem: "Leave the command out, and type it into the shell that opens." };
      line.place = word;
      continue;
    }
    const option = word.charAt(1);
    const value = VALUED.includes(option) ? word.slice(2) || (words.shift() ?? "") : "";
    const problem = take(option, value, line);
    if (problem !== "") return { problem };
  }
  const { place, port, user, via } = line;
  for (const hop of via ?? []) {
    if (!names.includes(hop) && !("destination" in parsePlace(hop))) {
      return { problem: `Behind -J put the name of a target or user@host:port; ${hop} is neither.` };
    }
  }
  if (via !== undefined && place !== undefined && names.includes(place)) {
    return { problem: `${place} is a target, which has jump hosts of its own. Leave -J out.` };
  }
  if (place === undefined) return { problem: "Say where to connect, for example ssh -p 2201 deploy@db1." };
  if (names.includes(place) && port === undefined && user === undefined) return { destination: { target: place } };
  if (/^ssh:\/\//i.test(place)) return parseHandTyped(place);
  // A colon is a port in a hand-typed place; after `ssh` only an IPv6 address has some.
  const host = place.slice(place.lastIndexOf("@") + 1);
  const login = place.includes("@") ? place.slice(0, place.lastIndexOf("@")) : user;
  if (login === undefined) return parsePlace(host);
  const parsed = parsePlace(`${login}@${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${port ?? SSH_PORT}`);
  if (via === undefined || !("destination" in parsed) || "target" in parsed.destination) return parsed;
  return { destination: { ...parsed.destination, via } };
}

/** The parts of an `ssh` command line. */
interface CommandLine {
  place?: string;
  port?: string;
  user?: string;
  via?: string[];
}

/** Stores one option in `line`; returns a sentence if it cannot be used here, else "". */
function take(option: string, value: string, line: CommandLine): string {
  if (option === "o") {
    const [key = "", setting = ""] = value.split(/=(.*)/s);
    const name = key.toLowerCase();
    const short = { port: "p", user: "l", proxyjump: "J" }[name];
    if (short !== undefined) return take(short, setting, line);
    return REFUSED[SAME_AS[name] ?? ""] ?? `The setting ${key} is not supported here. Leave -o out.`;
  }
  if (option === "p") {
    line.port = value;
    return /^\d{1,5}$/.test(value) ? "" : "Put a number from 1 to 65535 after -p.";
  }
  if (option === "J") {
    line.via = value.split(",");
    return value === "" ? "Put the name of a target, or user@host, after -J." : "";
  }
  if (option === "l") {
    line.user = value;
    return value === "" ? "Put the login name after -l." : "";
  }
  return REFUSED[option] ?? REFUSED[SAME_AS[option] ?? ""] ?? `-${option} is not supported here. Leave it out.`;
}
