// Owns the page's copy of the targets that this user may open, and their favourites, which the browser stores per user.
import * as api from "./api";
import type { Destination } from "./destination";
import { Latest } from "./latest";
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
  readonly #list = new Latest();

  /** Fetches the targets that `user` may open, and returns them; an answer to an older request is not kept. Rejects with
   *  an `ApiError`. */
  async load(user: string): Promise<Target[]> {
    if (user !== this.#user) Object.assign(this, { items: [], adhoc: false, loaded: false });
    this.#user = user;
    this.favourites = kept(user);
    const asked = api.targets();
    const keep = ({ items, adhoc }: Awaited<typeof asked>) => Object.assign(this, { items, adhoc, loaded: true });
    await this.#list.ask(() => asked, keep, () => null);
    return (await asked).items;
  }

  /** Returns the production target that `destination` leads to, if it is one, as far as this copy tells. */
  prodAt(destination: Destination): Target | undefined {
    return prodAt(this.items, destination);
  }

  /** Makes a target a favourite, or removes it from the favourites. */
  toggle(name: string): void {
    const without = this.favourites.filter((other) => other !== name);
    this.favourites = without.length < this.favourites.length ? without : [...without, name];
    try {
      localStorage.setItem(FAVOURITES_KEY + this.#user, JSON.stringify(this.favourites));
    } catch {
      // Without storage the favourites last as long as this page.
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
