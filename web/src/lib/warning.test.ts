// Tests how long a page shows the warnings before a session closes.
import { beforeEach, describe, expect, test } from "vitest";
import { begin, connection, seen, socket } from "./connection.fixture";

beforeEach(begin);

describe("a warning", () => {
  test("of the longest duration holds whatever is typed, until the socket is gone", () => {
    socket().attached();
    socket().control({ type: "duration_warning", closes_in_ms: 1000 });
    connection.input(new Uint8Array(1));
    connection.stay();
    expect(seen.timeUp).toEqual([1000]);
    socket().onclose?.({ code: 1006 });
    expect(seen.timeUp).toEqual([1000, null]);
  });

  test("of idleness is withdrawn by typing, not by what the terminal sends itself", () => {
    socket().attached();
    socket().control({ type: "idle_warning", closes_in_ms: 1000 });
    for (const own of ["\x1b[24;80R", "\x1b[O"]) connection.input(new TextEncoder().encode(own));
    expect([seen.idle.at(-1), socket().input]).toEqual([1000, [8, 3]]);
    connection.input(new TextEncoder().encode("a"));
    expect(seen.idle.at(-1)).toBe(null);
  });
});
