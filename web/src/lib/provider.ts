// Owns the way to the provider that signs people in, and the way back: what the page takes along, and what it came back with.
import { beginWithProvider, type Returned } from "./api";

/** Where the provider sends the browser back to. */
const PATH = "/oidc";
const VIEW_KEY = "pulsegate.view";

/** Leaves for the provider; the view that an address named is kept until the page is back. */
export async function leave(): Promise<void> {
  const url = await beginWithProvider();
  sessionStorage.setItem(VIEW_KEY, location.hash);
  location.assign(url);
}

/** Reads what the browser came back with out of an address; `null` where it did not come from the provider. */
export function parseReturn(path: string, search: string): Returned | null {
  if (path !== PATH) return null;
  const told = new URLSearchParams(search);
  const returned: Returned = { state: told.get("state") ?? "" };
  for (const key of ["code", "iss", "error"] as const) {
    const value = told.get(key);
    if (value !== null) returned[key] = value;
  }
  return returned;
}

/** What this page came back with. It leaves the address and its history at once: it is good for one use, and this page has it. */
export function takeReturn(): Returned | null {
  const returned = parseReturn(location.pathname, location.search);
  if (returned === null) return null;
  // Only the part behind `#`, so that no address of another site is ever followed.
  const view = sessionStorage.getItem(VIEW_KEY) ?? "";
  sessionStorage.removeItem(VIEW_KEY);
  history.replaceState(null, "", view.startsWith("#") ? `/${view}` : "/");
  return returned;
}
