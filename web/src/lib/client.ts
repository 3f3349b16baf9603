// Owns the id by which the gateway tells this page from others: kept over a reload, and held by one page at a time, since
// a browser that duplicates a tab copies what it keeps. Knows no terminal.

const KEY = "pulsegate.client";
/** Longest time that a page which is loaded again waits for its predecessor to let go: it is mostly gone by then, and a
 *  duplicate, which waits in vain, can be borne to start so much later. */
const PATIENCE_MS = 1_000;

let claimed: Promise<string> | undefined;

/** Returns this page's id. */
export function clientId(): Promise<string> {
  return (claimed ??= claim());
}

/** Claims the id that is kept, or a new one if there is none or another page holds it. Without locks, as outside secure
 *  contexts, nobody can tell, and a duplicate has the id of its original. */
export async function claim(): Promise<string> {
  const kept = sessionStorage.getItem(KEY);
  if (kept !== null && (await hold(kept))) return kept;
  const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem(KEY, made);
  await hold(made);
  return made;
}

/** Holds an id for as long as this page lives; returns whether no other page does. */
async function hold(id: string): Promise<boolean> {
  if (navigator.locks === undefined) return true;
  // A busy page may learn that its time is up before it learns that the lock was free all along.
  return (await lock(id, { signal: AbortSignal.timeout(PATIENCE_MS) })) || lock(id, { ifAvailable: true });
}

function lock(id: string, options: LockOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const held = (lock: Lock | null) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise<never>(() => {});
    };
    navigator.locks.request(`pulsegate.client.${id}`, options, held).catch(() => resolve(false));
  });
}
