// Tests how long a page shows the warnings before a session closes.
import { beforeEach, describe, expect, test } from "vitest";
import { begin, connection, seen, socket, world } from "./connection.fixture";
import { UNACKNOWLEDGED_BYTES } from "./input";

beforeEach(begin);

describe("a warning", () => {
  test("of idleness is withdrawn by typing behind a paste that nobody takes, once", () => {
    socket().attached();
    connection.input(new Uint8Array(UNACKNOWLEDGED_BYTES));
    const sent = [...socket().input];
    socket().control({ type: "idle_warning", closes_in_ms: 1000 });
    for (const key of ["\x03", "\x03"]) connection.input(new TextEncoder().encode(key));
    expect(socket().input).toEqual(sent);
    expect([seen.idle.at(-1), socket().frames("stay").length]).toEqual([null, 1]);
  });

  test("of the longest duration holds whatever is typed, until the socket is gone", () => {
    socket().attached();
    socket().control({ type: "duration_warning", closes_in_ms: 1000 });
    connection.input(new Uint8Array(1));
    connection.stay();
    expect(seen.timeUp).toEqual([1000]);
    socket().onclose?.({ code: 1006 });
    expect(seen.timeUp).toEqual([1000, null]);
  });

  test("of a gateway without its lease holds until the gateway or the loss of the socket withdraws it", () => {
    socket().attached();
    socket().control({ type: "lease_warning", closes_in_ms: 1000 });
    connection.input(new Uint8Array(1));
    expect(seen.cutOff).toEqual([1000]);
    socket().control({ type: "lease_warning", closes_in_ms: null });
    socket().control({ type: "lease_warning", closes_in_ms: 900 });
    socket().onclose?.({ code: 1006 });
    expect(seen.cutOff).toEqual([1000, null, 900, null]);
  });

  test("of idleness is withdrawn by typing, not by what the terminal sends itself", () => {
    socket().attached();
    socket().control({ type: "idle_warning", closes_in_ms: 1000 });
    for (const own of ["\x1b[24;80R", "\x1b[O"]) connection.input(new TextEncoder().encode(own));
    expect([seen.idle.at(-1), socket().input]).toEqual([1000, [8, 3]]);
    connection.input(new TextEncoder().encode("a"));
    expect(seen.idle.at(-1)).toBe(null);
  });

  test("of idleness is withdrawn on every page once somebody types on another one", () => {
    world.looksOn = true;
    socket().attached();
    socket().control({ type: "idle_warning", closes_in_ms: 1000 });
    socket().control({ type: "idle_warning", closes_in_ms: null });
    expect(seen.idle).toEqual([1000, null]);
  });

  test("of idleness that was withdrawn is not put off by the next key", () => {
    socket().attached();
    socket().control({ type: "idle_warning", closes_in_ms: 1000 });
    connection.stay();
    socket().control({ type: "idle_warning", closes_in_ms: null });
    connection.input(new TextEncoder().encode("a"));
    expect(socket().frames("stay").length).toBe(1);
  });
});
