// Owns searching the catalogue: words, tags, favourites, and which targets ask for a confirmation.
// Knows no network and no page.
import type { Destination } from "./destination";
import type { Role } from "./people";

/** An entry of the catalogue. */
export interface Target {
  name: string;
  host: string;
  port: number;
  username: string;
  /** The heading it is shown under. */
  group: string | null;
  /** The jump hosts it names itself, in the order in which they are dialled. */
  via: string[];
  /** All jump hosts on the way to it; `null` if that way leads nowhere. */
  way: string[] | null;
  tags: string[];
  /** The roles that may open it without a grant. */
  roles: Role[];
  /** The way in which the gateway signs in there. */
  auth: string;
  /** Where it is defined; only targets of the records can be changed here. */
  source: "config" | "records";
  /** Time of its last change; `null` for a target of the configuration. */
  changed_at: string | null;
}

/** Targets under one heading; `null` for those that have none. */
export interface Group {
  name: string | null;
  targets: Target[];
}

/** The result of a target's test. */
export interface Trial {
  ok: boolean;
  steps: TrialStep[];
}

/** One step of a dial; `hop` is the jump host at which it was taken. */
export interface TrialStep {
  step: string;
  hop: string | null;
  ok: boolean;
  /** Whether the user would have been asked. */
  asks: boolean;
  ms: number;
  message: string | null;
}

const STEPS: Record<string, string> = {
  resolve: "Find the address",
  connect: "Connect",
  key_exchange: "Agree on a secure connection",
  host_key: "Check the host key",
  login: "Sign in",
  terminal: "Get a terminal",
};

/** Returns a step's label; an unknown step of a newer gateway keeps its own name. */
export const stepName = ({ step, hop }: TrialStep) => `${STEPS[step] ?? step}${hop === null ? "" : ` at ${hop}`}`;

/** The tag of targets where a mistake is costly: they carry a red band and open only once their name is typed. */
export const PROD_TAG = "prod";

/** Whether a target carries the red band. */
export const isProd = (target: Target) => target.tags.some((tag) => tag.toLowerCase() === PROD_TAG);

/** Returns a target's place as it is usually written: with the port only if it is not 22. */
export const place = ({ username, host, port }: Pick<Target, "username" | "host" | "port">) => `${username}@${host}${port === 22 ? "" : `:${port}`}`;

/** Returns the same with the jump hosts it names: behind another one, the same address is another machine. */
export const whole = (target: Pick<Target, "username" | "host" | "port" | "via">) => [place(target), ...target.via].join(" via ");

/** Returns the targets that `target` could still use as jump hosts, sorted: not itself, nor those it has, nor those
 *  behind it. */
export function couldGoOver(targets: readonly Target[], target: string, via: readonly string[]): string[] {
  const others = targets.filter(({ name, way }) => name !== target && !via.includes(name) && !(way ?? []).includes(target));
  return others.map(({ name }) => name).sort((a, b) => a.localeCompare(b));
}

/** The most jump hosts on one way. */
export const JUMP_HOSTS = 4;

/** Returns every tag of these targets, sorted. */
export function tagsOf(targets: readonly Target[]): string[] {
  return [...new Set(targets.flatMap((target) => target.tags))].sort((a, b) => a.localeCompare(b));
}

/** Returns the targets that have every word of `search` somewhere and all of `tags`; favourites first, else in
 *  order. */
export function matching(
  targets: readonly Target[],
  search: string,
  tags: readonly string[],
  isFavourite: (name: string) => boolean,
): Target[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = targets.filter((target) => {
    const text = [target.name, place(target), target.group ?? "", ...target.tags].join("\n").toLowerCase();
    return words.every((word) => text.includes(word)) && tags.every((tag) => target.tags.includes(tag));
  });
  return [...found.filter(({ name }) => isFavourite(name)), ...found.filter(({ name }) => !isFavourite(name))];
}

/** Returns these targets by heading, sorted; those without a heading come last, under `null`. */
export function grouped(targets: readonly Target[]): Group[] {
  const names = groupsOf(targets);
  const of = (name: string | null) => ({ name, targets: targets.filter((target) => target.group === name) });
  return [...names, null].map(of).filter(({ targets }) => targets.length > 0);
}

/** Returns every heading of these targets, sorted. */
export function groupsOf(targets: readonly Target[]): string[] {
  const names = targets.flatMap(({ group }) => (group === null ? [] : [group]));
  return [...new Set(names)].sort((a, b) => a.localeCompare(b));
}

/** Returns the production target that `destination` leads to, by its name or by its address; `undefined` for none. */
export function prodAt(targets: readonly Target[], destination: Destination): Target | undefined {
  const leadsTo = (target: Target) =>
    "target" in destination
      ? target.name === destination.target
      : target.host.toLowerCase() === destination.host.toLowerCase() && target.port === destination.port;
  return targets.filter(isProd).find(leadsTo);
}
