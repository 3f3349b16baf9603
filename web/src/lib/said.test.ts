// Tests what a page shows of what the gateway said, and for how long.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Control } from "./protocol";
import { Said } from "./said.svelte";

const HELD: Control = { turn: 1, typing: true, name: null, may: "none", input_offset: 0, message: "" };

let said: Said;
beforeEach(() => {
  vi.useFakeTimers();
  said = new Said(true);
});
afterEach(() => vi.useRealTimers());

describe("what is said of a session", () => {
  test("undelivered_input_is_told_until_it_was_read_or_control_moves", () => {
    said.events.control(HELD);
    said.events.unsent(3);
    expect(said.unsent).toMatch(/^3 B of what you typed/);
    said.events.control(HELD);
    expect(said.unsent).not.toBe("");
    said.events.control({ ...HELD, turn: 2 });
    expect(said.unsent).toBe("");
    said.events.unsent(3);
    vi.advanceTimersByTime(20_000);
    expect(said.unsent).toBe("");
  });

  test("who_has_control_does_not_just_watch", () => {
    said.events.watchers(["ada", "maria"]);
    said.events.control({ ...HELD, typing: false, name: "maria" });
    expect(said.lookers).toEqual(["ada"]);
  });

  test("a_question_or_a_warning_needs_the_user_and_a_watcher_does_not", () => {
    said.events.watchers(["ada"]);
    expect(said.needs).toBe(false);
    said.events.timeUp(1_000);
    expect(said.needs).toBe(true);
    said.events.timeUp(null);
    said.events.cutOff(1_000);
    expect(said.needs).toBe(true);
    said.events.cutOff(null);
    expect(said.needs).toBe(false);
    said.events.requests([{ id: 1, name: "ada", ends_in_ms: 60_000 }]);
    expect(said.needs).toBe(true);
  });

  test("a_warning_needs_no_watcher_but_who_types", () => {
    said = new Said(false);
    said.events.control({ ...HELD, typing: false });
    said.events.idle(1_000);
    said.events.timeUp(1_000);
    expect(said.needs).toBe(false);
    said.events.control({ ...HELD, turn: 2, name: "ada" });
    expect(said.needs).toBe(true);
  });
});
