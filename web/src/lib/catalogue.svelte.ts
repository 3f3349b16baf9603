// Owns what this person may open as the page knows it, and their favourites, which this browser keeps for each user.
import * as api from "./api";
import type { Destination } from "./destination";
import { prodAt, type Target } from "./targets";

const FAVOURITES_KEY = "pulsegate.favourites.";

/** The catalogue; empty before `load()`. */
export class Catalogue {
  items = $state.raw<Target[]>([]);
  /** Whether a host may be typed by hand. */
  adhoc = $state(false);
  loaded = $state(false);
  favourites = $state.raw<string[]>([]);
  #user = "";

  /** Fetches what `user` may open; rejects with an `ApiError`. */
  async load(user: string): Promise<void> {
    if (user !== this.#user) Object.assign(this, { items: [], adhoc: false, loaded: false });
    this.#user = user;
    this.favourites = kept(user);
    const { items, adhoc } = await api.targets();
    Object.assign(this, { items, adhoc, loaded: true });
  }

  /** The target with the red band that `destination` leads to. */
  prodAt(destination: Destination): Target | undefined {
    return prodAt(this.items, destination);
  }

  /** Makes a target a favourite, or no longer one. */
  toggle(name: string): void {
    const without = this.favourites.filter((other) => other !== name);
    this.favourites = without.length < this.favourites.length ? without : [...without, name];
    try {
      localStorage.setItem(FAVOURITES_KEY + this.#user, JSON.stringify(this.favourites));
    } catch {
      // A browser that keeps nothing still shows them until this page goes.
    }
  }
}

function kept(user: string): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(FAVOURITES_KEY + user) ?? "[]");
    return Array.isArray(found) ? found.filter((name) => typeof name === "string") : [];
  } catch {
    return [];
  }
}

/** The one catalogue of this page. */
export const catalogue = new Catalogue();
