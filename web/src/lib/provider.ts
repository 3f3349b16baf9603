// Owns the way to the sign-in provider and back: what the page keeps meanwhile, and the parameters it comes back with.
import { beginWithProvider, type Returned } from "./api";

/** Path to which the provider sends the browser back. */
const PATH = "/oidc";
const VIEW_KEY = "pulsegate.view";

/** Goes to the provider; the view that the address named is kept until the page is back. */
export async function leave(): Promise<void> {
  const url = await beginWithProvider();
  sessionStorage.setItem(VIEW_KEY, location.hash);
  location.assign(url);
}

/** Reads the provider's parameters from an address; `null` if the browser did not come back from the provider. */
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

/** Returns the parameters this page came back with, and removes them from the address and its history: they work
 *  once. */
export function takeReturn(): Returned | null {
  const returned = parseReturn(location.pathname, location.search);
  if (returned === null) return null;
  // Only the part behind `#`, so that no address of another site is ever followed.
  const view = sessionStorage.getItem(VIEW_KEY) ?? "";
  sessionStorage.removeItem(VIEW_KEY);
  history.replaceState(null, "", view.startsWith("#") ? `/${view}` : "/");
  return returned;
}
