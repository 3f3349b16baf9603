// Owns how the catalogue is looked through: search, tags, favourites, and which targets ask for a second thought.
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
  /** The jump hosts it names itself, the first one first. */
  via: string[];
  /** All on the way to it; `null` where that leads nowhere. */
  way: string[] | null;
  tags: string[];
  /** Who may open it without a grant. */
  roles: Role[];
  /** How the gateway signs in there. */
  auth: string;
  /** Where it is kept; only what is of the records is changed here. */
  source: "config" | "records";
  /** When it was changed; `null` for one of the configuration. */
  changed_at: string | null;
}

/** Targets under one heading; `null` for those that have none. */
export interface Group {
  name: string | null;
  targets: Target[];
}

/** What was found when a target was tried out. */
export interface Trial {
  ok: boolean;
  steps: TrialStep[];
}

/** One step of a dial; `hop` is the jump host where it was taken. */
export interface TrialStep {
  step: string;
  hop: string | null;
  ok: boolean;
  /** Whether a person would have been asked. */
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

/** A step in words; one of a newer gateway as it is called there. */
export const stepName = ({ step, hop }: TrialStep) => `${STEPS[step] ?? step}${hop === null ? "" : ` at ${hop}`}`;

/** The tag of targets where a mistake is dear: they carry a red band and open only by their typed name. */
export const PROD_TAG = "prod";

/** Whether a target carries the red band. */
export const isProd = (target: Target) => target.tags.some((tag) => tag.toLowerCase() === PROD_TAG);

/** Where a target leads, as people write it. */
export const place = ({ username, host, port }: Pick<Target, "username" | "host" | "port">) => `${username}@${host}${port === 22 ? "" : `:${port}`}`;

/** The same with the jump hosts that it names: behind another one an address is another machine. */
export const whole = (target: Pick<Target, "username" | "host" | "port" | "via">) => [place(target), ...target.via].join(" via ");

/** The targets that `target` could still go over, by name: not itself, nor what it goes over already. */
export function couldGoOver(targets: readonly Target[], target: string, via: readonly string[]): string[] {
  const others = targets.filter(({ name, way }) => name !== target && !via.includes(name) && !(way ?? []).includes(target));
  return others.map(({ name }) => name).sort((a, b) => a.localeCompare(b));
}

/** The most jump hosts on one way. */
export const JUMP_HOSTS = 4;

/** Every tag of these targets, by name. */
export function tagsOf(targets: readonly Target[]): string[] {
  return [...new Set(targets.flatMap((target) => target.tags))].sort((a, b) => a.localeCompare(b));
}

/** The targets that have every word of `search` somewhere and all of `tags`; favourites first, then as they came. */
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

/** These targets under their headings, by name; those without one are the last, and alone have no heading either. */
export function grouped(targets: readonly Target[]): Group[] {
  const names = groupsOf(targets);
  const of = (name: string | null) => ({ name, targets: targets.filter((target) => target.group === name) });
  return [...names, null].map(of).filter(({ targets }) => targets.length > 0);
}

/** Every heading of these targets, by name. */
export function groupsOf(targets: readonly Target[]): string[] {
  const names = targets.flatMap(({ group }) => (group === null ? [] : [group]));
  return [...new Set(names)].sort((a, b) => a.localeCompare(b));
}

/** The target with the red band that `destination` leads to, by its name or by its address; `undefined` for none. */
export function prodAt(targets: readonly Target[], destination: Destination): Target | undefined {
  const leadsTo = (target: Target) =>
    "target" in destination
      ? target.name === destination.target
      : target.host.toLowerCase() === destination.host.toLowerCase() && target.port === destination.port;
  return targets.filter(isProd).find(leadsTo);
}
