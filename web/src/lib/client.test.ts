// Tests which id a page has: its own over a reload, and never that of a page from which its tab was duplicated.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { claim } from "./client";

/** The locks of one browser, as far as they are used: whoever asks waits, and gives up at the signal, or asks only for
 *  one that is free. */
class Locks {
  #held = new Map<string, () => void>();
  #waiting: { name: string; take: () => void }[] = [];

  request(name: string, { signal, ifAvailable }: LockOptions, hold: (lock: object | null) => unknown): Promise<never> {
    return new Promise((_, reject) => {
      const take = () => {
        this.#held.set(name, () => this.#held.delete(name));
        void hold({});
      };
      if (!this.#held.has(name)) return take();
      if (ifAvailable || signal === undefined) return void hold(null);
      this.#waiting.push({ name, take });
      signal.onabort = () => {
        this.#waiting = this.#waiting.filter((waiting) => waiting.take !== take);
        reject(signal.reason);
      };
    });
  }

  /** Lets everything go that is held, of which those who wait do not hear yet. */
  release() {
    for (const gone of this.#held.values()) gone();
  }

  /** Lets everything go that is held, as a page does that is gone. */
  leave() {
    this.release();
    for (const { take } of this.#waiting.splice(0)) take();
  }
}

let locks: Locks;
let patience: AbortController;
let kept: Map<string, string>;

beforeEach(() => {
  [locks, patience, kept] = [new Locks(), new AbortController(), new Map()];
  vi.spyOn(AbortSignal, "timeout").mockImplementation(() => patience.signal);
  vi.stubGlobal("navigator", { locks });
  vi.stubGlobal("sessionStorage", { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value) });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

test("a_page_that_is_loaded_again_waits_for_the_one_before_and_keeps_its_id", async () => {
  const before = await claim();
  const reloaded = claim();
  locks.leave();
  expect([await reloaded, [...kept.values()]]).toEqual([before, [before]]);
});

test("a_duplicate_has_an_id_of_its_own_and_keeps_that", async () => {
  const original = await claim();
  const copy = claim();
  patience.abort();
  const own = await copy;
  expect([own === original, [...kept.values()]]).toEqual([false, [own]]);
});

test("a_busy_page_that_hears_too_late_that_its_id_is_free_keeps_it", async () => {
  const before = await claim();
  const reloaded = claim();
  locks.release();
  patience.abort();
  expect([await reloaded, [...kept.values()]]).toEqual([before, [before]]);
});

test("a_page_without_locks_keeps_its_id", async () => {
  vi.stubGlobal("navigator", {});
  expect(await claim()).toBe(await claim());
});
