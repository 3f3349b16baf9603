// Tests a terminal's line: when it is opened again, when not, and how a silent one is judged.
import { beforeEach, describe, expect, test } from "vitest";
import { Connection } from "./connection";
import { SESSION, answers, begin, clock, connection, pass, seen, settle, socket, sockets, unparsed, view, world } from "./connection.fixture";
import type { Lookup } from "./world";

beforeEach(begin);

describe("losing the socket", () => {
  test("pauses_grow_to_five_seconds_and_waking_up_ends_them", async () => {
    socket().attached();
    const waits: number[] = [];
    for (let i = 0; i < 7; i += 1) {
      socket().onclose?.({ code: 1006 });
      await settle();
      const { phase } = connection;
      if (phase.kind === "reconnecting" && phase.retryAt !== null) waits.push(phase.retryAt - clock);
      connection.wake();
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 5000, 5000]);
    expect(sockets).toHaveLength(8);
  });

  test("it_gives_up_once_the_session_is_known_closed", async () => {
    socket().attached();
    socket().onclose?.({ code: 1006 });
    await pass(250);
    answers(() => Promise.resolve({ found: { ...SESSION, status: "closed", end_reason: "node_lost" } }));
    socket().onclose?.({ code: 1006 });
    await pass(60_000);
    expect(connection.phase).toMatchObject({ kind: "closed", reason: "node_lost" });
    expect(sockets).toHaveLength(2);
  });

  test("it_keeps_trying_while_the_gateway_cannot_be_reached", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().onclose?.({ code: 1006 });
    await pass(250);
    expect(sockets).toHaveLength(2);
  });

  test("a_session_opened_elsewhere_waits_to_be_taken_back", async () => {
    socket().attached();
    socket().onclose?.({ code: 4409 });
    await pass(60_000);
    expect([connection.phase.kind, sockets.length]).toEqual(["superseded", 1]);
    connection.resume();
    socket().attached();
    expect(connection.phase.kind).toBe("attached");
  });

  test("only_a_user_who_asks_for_a_terminal_takes_it_from_another_page", async () => {
    const again = () => socket().frames("attach").map((frame) => (frame as { again?: boolean }).again === true);
    const attaches = () => (socket().onopen?.(), again());
    expect(attaches()).toEqual([false]);
    socket().onclose?.({ code: 1006 });
    await pass(250);
    expect(attaches()).toEqual([false]);
    socket().attached();
    socket().onclose?.({ code: 1006 });
    await pass(500);
    expect(attaches()).toEqual([true]);
    socket().onclose?.({ code: 1006 });
    await settle();
    connection.wake();
    expect(attaches()).toEqual([true]);
    socket().onclose?.({ code: 4409 });
    expect(connection.phase.kind).toBe("superseded");
    connection.resume();
    expect(attaches()).toEqual([false]);
  });

  test("a_page_that_comes_back_after_a_reload_throws_out_nobody_until_it_is_asked_to", () => {
    const reloaded = new Connection(world, view);
    reloaded.comeBack();
    socket().onopen?.();
    expect(socket().frames("attach")).toMatchObject([{ output_offset: null, again: true }]);
    socket().onclose?.({ code: 4409 });
    expect(reloaded.phase.kind).toBe("superseded");
    reloaded.resume();
    socket().onopen?.();
    expect(socket().frames("attach")[0]).not.toHaveProperty("again");
  });

  test.each([4401, 4403, 4429])("close_code_%i_refuses_this_terminal_in_the_gateways_words", async (code) => {
    socket().attached();
    socket().control({ type: "error", code: "sign_in", message: "You may no longer look on." });
    socket().onclose?.({ code });
    await pass(60_000);
    expect([connection.phase, sockets.length]).toEqual([{ kind: "refused", code, message: "You may no longer look on." }, 1]);
  });

  test("a_user_who_asks_at_the_wrong_gateway_is_shown_the_right_one", async () => {
    socket().control({ type: "error", code: "misdirected", message: "gw-2 serves it." });
    socket().onclose?.({ code: 4421 });
    await pass(60_000);
    expect([connection.phase, sockets.length]).toEqual([{ kind: "refused", code: 4421, message: "gw-2 serves it." }, 1]);
    connection.resume();
    expect(sockets).toHaveLength(2);
  });

  test("a_page_that_comes_back_to_the_wrong_gateway_says_so_and_tries_on", async () => {
    socket().attached();
    socket().onclose?.({ code: 1006 });
    await pass(250);
    socket().control({ type: "error", code: "misdirected", message: "gw-2 serves it." });
    socket().onclose?.({ code: 4421 });
    expect([connection.phase.kind, seen.notices.at(-1)]).toEqual(["reconnecting", "gw-2 serves it."]);
    await pass(500);
    expect(sockets).toHaveLength(3);
    socket().attached();
    expect([connection.phase.kind, seen.notices.at(-1)]).toEqual(["attached", null]);
  });

  test("a_reloaded_page_at_the_wrong_gateway_says_so_and_tries_on", async () => {
    const reloaded = new Connection(world, view);
    reloaded.comeBack();
    socket().control({ type: "error", code: "misdirected", message: "gw-2 serves it." });
    socket().onclose?.({ code: 4421 });
    expect([reloaded.phase.kind, seen.notices.at(-1)]).toEqual(["reconnecting", "gw-2 serves it."]);
    await pass(250);
    expect(sockets).toHaveLength(3);
  });

  test("an_older_socket_that_dies_late_disturbs_nothing", async () => {
    socket().attached();
    const old = socket();
    old.onclose?.({ code: 1006 });
    await pass(250);
    socket().attached();
    old.onclose?.({ code: 1006 });
    old.output(10);
    expect([connection.phase.kind, unparsed.length]).toEqual(["attached", 0]);
  });

  test("a_silent_socket_that_the_gateway_gave_up_is_replaced", async () => {
    socket().attached();
    answers(() => Promise.resolve({ found: { ...SESSION, status: "detached" } }));
    await pass(16_000);
    expect(sockets).toHaveLength(2);
  });

  test("a_watcher_stays_while_the_owner_is_away", async () => {
    world.looksOn = true;
    socket().attached();
    answers(() => Promise.resolve({ found: { ...SESSION, status: "detached" } }));
    for (let pings = 0; pings < 12; pings += 1) {
      await pass(5_000);
      socket().control({ type: "alive" });
    }
    expect([sockets.length, socket().closedWith]).toEqual([1, undefined]);
    answers(() => Promise.resolve("missing"));
    await pass(15_000);
    expect(socket().closedWith).toBe(4000);
  });

  test.each(["active", "detached"] as const)("a_watcher_whose_socket_is_dead_attaches_anew_to_the_%s_session", async (status) => {
    world.looksOn = true;
    socket().attached();
    answers(() => Promise.resolve({ found: { ...SESSION, status } }));
    await pass(14_999);
    expect(sockets).toHaveLength(1);
    await pass(251);
    expect([sockets.length, sockets[0]?.closedWith]).toEqual([2, 4000]);
  });

  test("a_guest_who_types_into_a_dead_socket_attaches_anew", async () => {
    world.looksOn = true;
    socket().attached({ control: { turn: 1, typing: true, name: "maria", may: "none", input_offset: 0, message: "" } });
    for (let keys = 0; keys < 16; keys += 1) {
      connection.input(new TextEncoder().encode("a"));
      await pass(1_000);
    }
    expect(sockets).toHaveLength(2);
  });

  test("a_silent_socket_of_an_attached_session_is_left_alone", async () => {
    socket().attached();
    await pass(600_000);
    expect([sockets.length, socket().closedWith]).toEqual([1, undefined]);
  });

  test("a_socket_that_never_attaches_is_tried_again", async () => {
    socket().onopen?.();
    await pass(16_000);
    expect(sockets).toHaveLength(2);
  });
});

describe("a gateway that does not answer", () => {
  const SILENT = "The gateway does not answer. What you type is kept and sent once it is back.";
  const never = () => new Promise<Lookup>(() => {});
  const type = (text: string) => connection.input(new TextEncoder().encode(text));
  /** Attaches to a login that asks for a password. */
  function asks() {
    socket().attached({ session: { status: "connecting" } });
    socket().control({ type: "prompt", id: 4, kind: "password", title: "", text: "", fields: [] });
  }

  test("is reported three seconds after it was asked, three after something was typed", async () => {
    answers(never);
    socket().attached();
    await pass(10_000);
    type("a");
    await pass(5_999);
    expect(seen.notices).toEqual([]);
    await pass(1);
    expect([seen.notices, connection.phase.kind, sockets.length]).toEqual([[SILENT], "attached", 1]);
  });

  test("is reported at once where the network says so, and no longer with the first byte", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().attached();
    socket().control({ type: "notice", code: "draining", message: "About to stop." });
    connection.doubt();
    await pass(60_000);
    socket().output(1);
    expect(seen.notices).toEqual(["About to stop.", SILENT, "About to stop."]);
  });

  test("is sent nothing that is typed blind, and one line once it is back", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().attached();
    connection.doubt();
    await settle();
    type("ls\r");
    expect([socket().input, seen.waiting?.text]).toEqual([[], "ls⏎"]);
    connection.release();
    expect(socket().input).toEqual([]);
    answers(() => Promise.resolve({ found: SESSION }));
    await pass(3_000);
    expect([socket().input, seen.waiting, seen.notices]).toEqual([[3], null, [SILENT, null]]);
  });

  test("is sent no answer to a question, which stays and says itself when it can be answered", async () => {
    asks();
    answers(() => Promise.reject(new Error("offline")));
    connection.doubt();
    await settle();
    connection.answer(4, ["secret"]);
    expect([socket().frames("answer"), seen.prompts.at(-1)?.id, seen.unanswered]).toEqual([[], 4, true]);
    expect(seen.notices.at(-1)).toBe("The gateway does not answer.");
    socket().output(1);
    connection.answer(4, ["secret"]);
    expect([socket().frames("answer").length, seen.unanswered]).toEqual([1, false]);
  });

  test("is no longer said not to answer once its socket is gone", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().attached();
    connection.doubt();
    await settle();
    socket().onclose?.({ code: 1006 });
    expect(seen.unanswered).toBe(false);
  });

  test("is attached anew if an answer is followed by nothing and the login may still wait for it", async () => {
    asks();
    answers(() => Promise.resolve({ found: { ...SESSION, status: "connecting" } }));
    connection.answer(4, ["secret"]);
    await pass(2_999);
    expect(sockets).toHaveLength(1);
    await pass(251);
    expect([sockets.length, sockets[0]?.closedWith]).toEqual([2, 4000]);
    // It comes again, and costs no other socket.
    asks();
    await pass(60_000);
    expect([sockets.length, seen.prompts.at(-1)?.id]).toEqual([2, 4]);
  });

  test("is left alone if anything follows an answer", async () => {
    asks();
    answers(() => Promise.resolve({ found: { ...SESSION, status: "connecting" } }));
    connection.answer(4, ["secret"]);
    socket().control({ type: "status", status: "connecting", detail: "" });
    await pass(60_000);
    expect(sockets).toHaveLength(1);
  });

  test("is doubted over an answer that was sent while it was asked about the socket", async () => {
    asks();
    answers(() => Promise.resolve({ found: { ...SESSION, status: "connecting" } }));
    connection.doubt();
    connection.answer(4, ["secret"]);
    await pass(16_000);
    expect(sockets).toHaveLength(2);
  });

  test("is sent several lines only once the user confirms", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().attached();
    connection.doubt();
    await settle();
    type("cd /\rrm *\r");
    socket().output(1);
    expect([socket().input, seen.waiting?.asked]).toEqual([[], true]);
    connection.release();
    expect(socket().input).toEqual([10]);
  });

  test("is sent an end over HTTP too, and here where it answers again", async () => {
    answers(() => Promise.reject(new Error("offline")));
    socket().attached();
    connection.doubt();
    await settle();
    expect(connection.end()).toBe(false);
    const another = new Connection(world, view);
    another.resume();
    socket().attached();
    another.doubt();
    await settle();
    socket().output(1);
    expect(another.end()).toBe(true);
  });

  test("is asked one question at a time", async () => {
    let questions = 0;
    answers(() => ((questions += 1), never()));
    socket().attached();
    type("a");
    await pass(60_000);
    expect(questions).toBe(1);
  });

  test("is not one that answers without saying anything of the session", async () => {
    answers(() => Promise.resolve("unsaid"));
    socket().attached();
    type("a");
    await pass(60_000);
    expect([seen.notices, sockets.length]).toEqual([[], 1]);
  });

  test("was only slow if it answers later", async () => {
    let found: (lookup: Lookup) => void = () => {};
    answers(() => new Promise((resolve) => (found = resolve)));
    socket().attached();
    type("a");
    await pass(10_000);
    found({ found: SESSION });
    await settle();
    expect([seen.notices, sockets.length]).toEqual([[SILENT, null], 1]);
  });
});
