// Owns waiting: a condition is checked again until it holds or the time limit passes. Knows no particular condition.
import { setTimeout as pause } from "node:timers/promises";

const POLL_MS = 50;
/** Default time limit: long enough for a slow machine, short enough to fail while somebody still looks. */
const LIMIT_MS = 15_000;

/**
 * Resolves to what `condition` returns once that is true-ish; rejects with `what` after `limit` milliseconds.
 * A condition that throws does not hold; its error is the cause of the rejection if it never does.
 */
export async function until(what, condition, limit = LIMIT_MS) {
  const end = performance.now() + limit;
  for (;;) {
    let found, error;
    try {
      found = await condition();
    } catch (thrown) {
      error = thrown;
    }
    if (found) return found;
    if (performance.now() >= end) throw new Error(`waited ${limit} ms in vain for ${what}`, { cause: error });
    await pause(POLL_MS);
  }
}
