// Owns what is open in this page: the terminal tabs and the view in front, and keeping the tabs over a reload.
// A tab is a session's id and its destination; it knows no socket.
import * as api from "./api";
import type { Connection } from "./connection";
import { destinationOf, type Destination } from "./destination";
import type { Session } from "./protocol";

/** One terminal tab. */
export interface Tab {
  /** The session's id. */
  id: string;
  /** The target's name, as shown; with a number if another tab has it already. */
  name: string;
  /** That number; none for the first tab. */
  number?: number;
  /** The destination of "Reconnect". */
  destination: Destination;
  /** The title that the target has set, as plain text; may be empty. */
  title: string;
  /** Whether its session is over. */
  closed: boolean;
  /** Whether this page only watches. */
  looksOn?: boolean;
  /** Whether another page has it, or it was refused here: closing the tab then ends nothing. */
  elsewhere?: boolean;
  /** Whether its connection is broken and being made again. */
  away?: boolean;
  /** Whether the gateway does not answer there, though the connection stands. */
  unanswered?: boolean;
  /** Whether several lines are pasted here without asking. */
  pastesFreely?: boolean;
  /** Whether something in it waits for the user, perhaps not for long. */
  needs?: boolean;
}

/** The views that an address names by one word. */
export type Page = "sessions" | "people" | "account" | "audit" | "host-keys";

/** Returns what a tab's dot says; nothing while the terminal is connected or about to be. */
export function trouble(tab: Tab): string | undefined {
  if (tab.closed) return "ended";
  if (tab.elsewhere) return "not connected here";
  if (tab.away) return "reconnecting";
  return tab.unanswered ? "no answer" : undefined;
}

/** Returns a tab's name without its number, which is shown in full however little room there is. */
export function bareName({ name, number }: Tab): string {
  return number === undefined ? name : name.slice(0, -` ${number}`.length);
}

const PAGES: readonly Page[] = ["sessions", "people", "account", "audit", "host-keys"];

/** The view in front. */
export type Route =
  | { view: "connect" }
  | { view: Page }
  | { view: "terminal"; id: string }
  /** Plays a recording, from `at` seconds on. */
  | { view: "replay"; id: string; at: number }
  /** Sets a user up by the secret of a one-time link. */
  | { view: "setup"; secret: string }
  /** Opens a terminal to `target` at once; a demo's link leads here. */
  | { view: "open"; target: string };

const TABS_KEY = "pulsegate.tabs";
/** Storage key of the user whose tabs those are. */
const OWNER_KEY = "pulsegate.tabs.owner";

/** Reads the part of the address behind `#`: `/new`, a page's name, `/s/<id>`, `/r/<id>/t=<seconds>`, `/open/<target>`,
 *  `/setup/<secret>`. */
export function parseRoute(hash: string): Route {
  const [view, rest, more] = hash.replace(/^#?\/?/, "").split("/");
  if (view === "s" && rest) return { view: "terminal", id: rest };
  if (view === "r" && rest) return { view: "replay", id: rest, at: Number(more?.replace("t=", "")) || 0 };
  if (view === "setup" && rest) return { view: "setup", secret: rest };
  const target = view === "open" && rest ? decoded(rest) : null;
  if (target !== null) return { view: "open", target };
  const page = PAGES.find((page) => page === view);
  return { view: page ?? "connect" };
}

/** Decodes a part of an address; `null` if it is not a valid encoding. */
function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function keptTabs(): Tab[] {
  try {
    return JSON.parse(sessionStorage.getItem(TABS_KEY) ?? "[]") as Tab[];
  } catch {
    return [];
  }
}

/** The page's tabs and its current view. */
export class Workspace {
  tabs = $state<Tab[]>(keptTabs());
  route = $state<Route>(parseRoute(location.hash));
  /** The terminal in front, for shortcuts and tests. */
  screen: { text(): string; readonly terminal: { focus(): void } } | null = null;
  /** Opens the search in the terminal in front; `null` while nothing can be searched there. */
  find = $state.raw<(() => void) | null>(null);
  /** Moves the focus to the tab in front, or else to the view in front, in the bar above the terminals. */
  enterBar: () => void = () => undefined;
  /** The connection of each tab, by session id. */
  readonly connections = new Map<string, Connection>();
  /** The session ids of tabs that the user asked for and that are not connected yet; none that was kept over a
   *  reload. */
  readonly asked = new Set<string>();

  /** The tab in front, if a terminal is. */
  readonly active = $derived.by(() => {
    const { route } = this;
    return route.view === "terminal" ? (this.tabs.find((tab) => tab.id === route.id) ?? null) : null;
  });

  /** The tabs in which something waits for an answer. */
  readonly needing = $derived(this.tabs.filter((tab) => tab.needs === true));

  constructor() {
    addEventListener("hashchange", () => (this.route = parseRoute(location.hash)));
  }

  /** Brings a tab, the targets (`new`) or a page to the front. */
  show(where: Tab | "new" | Page): void {
    location.hash = typeof where === "string" ? `/${where}` : `/s/${where.id}`;
    // The event comes later, and until then the old address would name a tab that is gone.
    this.route = parseRoute(location.hash);
  }

  /**
   * Gives a session a tab, a new one if it has none, or one in the place of `instead`; to type in it or only to watch.
   * The tab comes to the front if the page still shows `from`, where it was asked for, not if the user has moved on.
   */
  add(session: Session, instead?: Tab, looksOn = false, from = location.hash): void {
    const { id, target } = session;
    if (!this.tabs.some((tab) => tab.id === id)) {
      const tab = { id, ...this.#unlike(target, instead), destination: destinationOf(target), title: "", closed: false, looksOn };
      const at = instead === undefined ? -1 : this.tabs.findIndex((other) => other.id === instead.id);
      if (at < 0) this.tabs.push(tab);
      else this.tabs[at] = tab;
      this.asked.add(id);
      this.remember();
    }
    if (location.hash !== from) return;
    location.replace(`#/s/${id}`);
    this.route = { view: "terminal", id };
  }

  /** Returns the target's name with the lowest number, if any, that tells it from the tabs except `instead`. */
  #unlike(target: string, instead?: Tab): Pick<Tab, "name" | "number"> {
    const names = this.tabs.filter((tab) => tab.id !== instead?.id).map((tab) => tab.name);
    if (!names.includes(target)) return { name: target };
    let number = 2;
    while (names.includes(`${target} ${number}`)) number += 1;
    return { name: `${target} ${number}`, number };
  }

  /** Opens a session and shows it, as `add()` does; rejects with an `ApiError`. */
  async open(destination: Destination, instead?: Tab, from = location.hash): Promise<void> {
    this.add(await api.openSession(destination), instead, false, from);
  }

  /** Closes a tab: ends its session, removes the tab and shows its neighbour. */
  close(id: string): void {
    const looksOn = this.tabs.find((tab) => tab.id === id)?.looksOn === true;
    if (this.connections.get(id)?.end() !== true && !looksOn) {
      // Nobody waits for this answer: an unreachable gateway ends the session itself when no browser comes back.
      api.endSession(id).catch(() => {});
    }
    const at = this.tabs.findIndex((tab) => tab.id === id);
    const wasInFront = this.active?.id === id;
    this.tabs = this.tabs.filter((tab) => tab.id !== id);
    this.remember();
    if (wasInFront) this.show(this.tabs[Math.min(at, this.tabs.length - 1)] ?? "new");
  }

  /** Makes the tabs `user`'s: removes those of another user, from this page or from before a reload. */
  belongTo(user: string): void {
    if (sessionStorage.getItem(OWNER_KEY) === user) return;
    const wasInFront = this.active !== null;
    this.tabs = [];
    this.remember();
    sessionStorage.setItem(OWNER_KEY, user);
    if (wasInFront) this.show("new");
  }

  /** Removes all tabs. */
  clear(): void {
    this.tabs = [];
    this.remember();
    this.show("new");
  }

  /** Changes a tab, and keeps the change. */
  update(id: string, change: Partial<Pick<Tab, "title" | "closed" | "elsewhere" | "away" | "unanswered" | "pastesFreely" | "needs">>): void {
    const tab = this.tabs.find((tab) => tab.id === id);
    if (tab === undefined) return;
    Object.assign(tab, change);
    this.remember();
  }

  /** Keeps the tabs over a reload. */
  remember(): void {
    sessionStorage.setItem(TABS_KEY, JSON.stringify(this.tabs));
  }
}

/** The one workspace of this page. */
export const workspace = new Workspace();
