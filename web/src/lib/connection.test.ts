// Tests the protocol between a terminal's page and its session.
import { beforeEach, describe, expect, test } from "vitest";
import { AWAY_BYTES } from "./away";
import { SESSION, answers, begin, connection, parse, pass, seen, socket, sockets, timers, unparsed } from "./connection.fixture";
import { FRAME_BYTES, UNACKNOWLEDGED_BYTES } from "./input";
import type { Control } from "./protocol";
import type { Lookup } from "./world";

beforeEach(begin);

describe("attaching", () => {
  test("a_new_page_asks_for_what_the_screen_needs", () => {
    connection.resize(5000, 0);
    socket().onopen?.();
    const offsets = { output_offset: null, input_offset: null };
    const attach = { type: "attach", cols: 1000, rows: 1, mode: "interactive", client_id: "page", ...offsets, screen: true, control: true };
    expect(socket().sent).toEqual([attach]);
  });

  test("a_page_that_comes_back_continues_at_the_exact_byte", async () => {
    socket().attached({ output: 100, input: 7 });
    socket().output(50);
    connection.input(new Uint8Array(3));
    socket().onclose?.({ code: 1006 });
    await pass(250);
    socket().onopen?.();
    expect(socket().frames("attach")).toMatchObject([{ output_offset: 150, input_offset: 10 }]);
  });

  test("lost_output_is_reported_and_repeated_output_starts_on_a_clean_screen", async () => {
    socket().attached({ output: 0 });
    socket().output(100);
    socket().onclose?.({ code: 1006 });
    await pass(250);
    socket().attached({ output: 900, lost: 800 });
    expect([seen.lost, seen.resets]).toEqual([[800], 0]);
    socket().onclose?.({ code: 1006 });
    await pass(250);
    socket().attached({ output: 500 });
    expect(seen.resets).toBe(1);
  });

  test("a_notice_of_the_gateway_holds_until_the_socket_is_gone", () => {
    socket().attached();
    socket().control({ type: "notice", code: "draining", message: "This gateway is about to stop." });
    socket().onclose?.({ code: 1006 });
    expect(seen.notices).toEqual(["This gateway is about to stop.", null]);
  });

  test("a_resize_is_sent_once_it_rests", async () => {
    socket().attached();
    for (const cols of [90, 100, 110]) connection.resize(cols, 30);
    await pass(50);
    expect(socket().frames("resize")).toEqual([{ type: "resize", cols: 110, rows: 30 }]);
  });

  const ATTRIBUTES = new TextEncoder().encode("\x1b[?1;2c");
  test("old_questions_in_replayed_output_are_not_answered_again_and_keys_pass", () => {
    socket().attached({ output: 0, session: { bytes_out: 60 } });
    connection.input(ATTRIBUTES);
    connection.input(Uint8Array.of(0x1b));
    expect(socket().input).toEqual([1]);
    socket().output(60);
    parse();
    connection.input(ATTRIBUTES);
    expect(socket().input).toEqual([1, ATTRIBUTES.length]);
  });

  test("a_wrong_count_of_history_never_keeps_a_terminal_mute", async () => {
    socket().attached({ output: 0, session: { bytes_out: 60 } });
    await pass(2_000);
    connection.input(ATTRIBUTES);
    expect(socket().input).toEqual([ATTRIBUTES.length]);
  });
});

describe("a picture", () => {
  test("is drawn, and counted in no offset", async () => {
    socket().attached({ output: 1_000, lost: 900, picture: 300 });
    socket().output(300);
    socket().output(50);
    expect([seen.lost, seen.skipped]).toEqual([[], []]);
    expect(unparsed.length).toBe(2);
    parse();
    await pass(100);
    expect(socket().frames("ack")).toEqual([{ type: "ack", output_offset: 1_050 }]);
  });

  test("comes with the number of bytes that a page which was away has lost for good", async () => {
    socket().attached();
    socket().output(70);
    socket().onclose?.({ code: 1006 });
    await pass(1_000);
    socket().onopen?.();
    socket().attached({ output: 1_000, lost: 930, picture: 300 });
    expect([seen.lost, seen.skipped]).toEqual([[], [930]]);
  });

  test("brings a page that fell behind to where the output goes on", async () => {
    socket().attached();
    socket().output(70);
    socket().control({ type: "screen", output_offset: 5_000, screen_bytes: 20, lost_bytes: 4_930 });
    socket().output(20);
    socket().output(1);
    parse();
    await pass(100);
    expect(socket().frames("ack").at(-1)).toEqual({ type: "ack", output_offset: 5_001 });
  });

  test("that broke off is asked for again, whole", async () => {
    socket().attached({ output: 1_000, picture: 300 });
    socket().onclose?.({ code: 1006 });
    expect(seen.resets).toBe(1);
    await pass(1_000);
    socket().onopen?.();
    expect(socket().frames("attach")[0]).toMatchObject({ output_offset: null, screen: true });
  });
});

describe("acknowledging output", () => {
  test("only_parsed_bytes_are_acknowledged_and_small_ones_together", async () => {
    socket().attached({ output: 10 });
    socket().output(1);
    socket().output(2);
    await pass(1_000);
    expect(socket().frames("ack")).toEqual([]);
    parse();
    await pass(50);
    expect(socket().frames("ack")).toEqual([{ type: "ack", output_offset: 13 }]);
  });

  test("a_flood_is_acknowledged_at_least_every_32_kib", () => {
    socket().attached();
    for (let i = 0; i < 8; i += 1) socket().output(16 * 1024);
    parse();
    expect(socket().frames("ack")).toHaveLength(4);
  });

  test("bytes_of_an_older_socket_are_not_acknowledged_to_the_new_one", async () => {
    socket().attached();
    socket().output(40_000);
    socket().onclose?.({ code: 1006 });
    await pass(250);
    socket().attached({ output: 40_000 });
    parse();
    await pass(50);
    expect(socket().frames("ack")).toEqual([]);
  });
});

describe("sending input", () => {
  test("a_paste_leaves_in_small_frames_within_the_window", () => {
    socket().attached();
    connection.input(new Uint8Array(200_000));
    expect(socket().input).toEqual([FRAME_BYTES, FRAME_BYTES, FRAME_BYTES, FRAME_BYTES]);
    socket().control({ type: "input_ack", input_offset: UNACKNOWLEDGED_BYTES });
    expect(socket().input).toHaveLength(8);
  });

  test("keys_typed_while_disconnected_arrive_once", async () => {
    socket().attached();
    connection.input(Uint8Array.of(1, 2, 3));
    socket().onclose?.({ code: 1006 });
    connection.input(Uint8Array.of(4));
    await pass(250);
    socket().attached({ input: 2 });
    expect(socket().sent.filter((frame) => frame instanceof Uint8Array)).toEqual([Uint8Array.of(3), Uint8Array.of(4)]);
  });

  test("keys_in_flight_are_not_repeated_when_another_page_typed_meanwhile", async () => {
    socket().attached();
    connection.input(Uint8Array.of(1, 2));
    socket().onclose?.({ code: 4409 });
    connection.resume();
    socket().attached({ input: 40 });
    connection.input(Uint8Array.of(3));
    expect(socket().sent.filter((frame) => frame instanceof Uint8Array)).toEqual([Uint8Array.of(3)]);
  });
});

describe("typing while away", () => {
  const typed = (text: string) => connection.input(new TextEncoder().encode(text));
  const arrived = () =>
    socket()
      .sent.filter((frame) => frame instanceof Uint8Array)
      .map((frame) => new TextDecoder().decode(frame))
      .join("");

  /** Loses the socket; the next one is there when this returns. */
  async function away(meanwhile: () => void) {
    socket().attached();
    socket().onclose?.({ code: 1006 });
    meanwhile();
    await pass(250);
    socket().attached();
  }

  test("one_line_is_shown_and_then_sent_once", async () => {
    await away(() => {
      typed("ls\r");
      expect(seen.waiting).toEqual({ text: "ls⏎", lines: ["ls"], asked: false });
    });
    expect([arrived(), seen.waiting]).toEqual(["ls\r", null]);
    connection.release();
    expect(arrived()).toBe("ls\r");
  });

  test("several_lines_wait_for_the_users_confirmation", async () => {
    await away(() => typed("cd /\rls\r"));
    expect([arrived(), seen.waiting?.asked, seen.waiting?.lines]).toEqual(["", true, ["cd /", "ls"]]);
    connection.release();
    expect([arrived(), seen.waiting]).toEqual(["cd /\rls\r", null]);
  });

  test("what_is_discarded_never_arrives", async () => {
    await away(() => typed("cd /\rls\r"));
    connection.discard();
    connection.release();
    expect([arrived(), seen.waiting]).toEqual(["", null]);
  });

  test("a_question_asked_as_the_socket_dies_again_is_asked_again", async () => {
    await away(() => typed("a\rb\r"));
    socket().onclose?.({ code: 1006 });
    expect(seen.waiting?.asked).toBe(false);
    connection.release();
    await pass(250);
    socket().attached();
    expect([arrived(), seen.waiting?.asked]).toEqual(["", true]);
  });

  test("no_more_is_kept_than_fits", async () => {
    await away(() => {
      expect(typed("a".repeat(AWAY_BYTES))).toBe(true);
      expect(typed("b")).toBe(false);
    });
    expect(arrived()).toBe("a".repeat(AWAY_BYTES));
  });

  test("what_is_typed_before_the_login_is_over_is_dropped_and_the_view_told_once", async () => {
    const connecting = { session: { status: "connecting" } } as const;
    socket().attached(connecting);
    socket().control({ type: "prompt", id: 4, kind: "password", title: "", text: "", fields: [] });
    socket().onclose?.({ code: 1006 });
    for (const key of "hunter2\r") expect(typed(key)).toBe(true);
    expect([seen.waiting, seen.dropped]).toEqual([null, 1]);
    await pass(250);
    socket().attached(connecting);
    socket().onclose?.({ code: 1006 });
    typed("x");
    await pass(500);
    socket().attached();
    expect([arrived(), seen.dropped]).toEqual(["", 2]);
    socket().onclose?.({ code: 1006 });
    typed("ls\r");
    await pass(250);
    socket().attached();
    expect([arrived(), seen.dropped]).toEqual(["ls\r", 2]);
  });

  test("what_a_page_that_is_loaded_anew_during_a_login_takes_before_it_knows_of_it_is_dropped", () => {
    typed("hunter2\r");
    socket().attached({ session: { status: "connecting" } });
    expect([arrived(), seen.waiting, seen.dropped]).toEqual(["", null, 1]);
    socket().control({ type: "status", status: "active", detail: "" });
    expect(arrived()).toBe("");
  });

  test("what_a_page_that_is_loaded_anew_over_a_shell_takes_before_it_is_attached_arrives", () => {
    typed("ls\r");
    socket().attached();
    expect([arrived(), seen.waiting, seen.dropped]).toEqual(["ls\r", null, 0]);
  });

  test("a_gateway_that_does_not_answer_during_a_login_promises_to_keep_nothing", async () => {
    socket().attached({ session: { status: "connecting" } });
    answers(() => Promise.reject(new Error()));
    connection.doubt();
    await pass(0);
    expect(seen.notices.at(-1)).toMatch(/not kept/);
    typed("x");
    expect([seen.waiting, seen.dropped]).toEqual([null, 1]);
  });

  test("the_pointers_place_is_not_reported_later", async () => {
    await away(() => {
      for (const report of ["\x1b[O", "\x1b[I\x1b[<35;10;4M", "\x1b[M !!"]) typed(report);
      typed("\x1b[A");
    });
    expect(arrived()).toBe("\x1b[A");
  });
});

describe("ending", () => {
  test("closed_is_final", async () => {
    socket().attached();
    socket().control({ type: "closed", reason: "exited", exit_status: 3, message: "" });
    socket().onclose?.({ code: 1000 });
    connection.resume();
    await pass(60_000);
    expect(connection.phase).toMatchObject({ kind: "closed", reason: "exited", exitStatus: 3 });
    expect([sockets.length, connection.input(new Uint8Array(1))]).toEqual([1, false]);
  });

  test("ending_a_session_is_sent_before_leaving", () => {
    socket().attached();
    expect(connection.end()).toBe(true);
    expect([socket().frames("close").length, socket().closedWith]).toEqual([1, 1000]);
  });

  test.each(["detach", "end"] as const)("nothing_goes_on_after_%s", async (leave) => {
    let found: (lookup: Lookup) => void = () => {};
    answers(() => new Promise((resolve) => (found = resolve)));
    socket().onclose?.({ code: 1006 });
    connection[leave]();
    found({ found: SESSION });
    await pass(60_000);
    connection.resume();
    connection.wake();
    await pass(60_000);
    expect([sockets.length, timers.length]).toEqual([1, 0]);
  });

  test("what_is_typed_in_a_terminal_that_was_opened_elsewhere_waits_for_nothing", () => {
    socket().attached();
    socket().onclose?.({ code: 4409 });
    expect(connection.input(Uint8Array.of(0x6c, 0x73))).toBe(true);
    expect(seen.waiting).toBe(null);
  });

  test("leaving_a_terminal_that_was_opened_elsewhere_ends_nothing", () => {
    socket().attached();
    socket().onclose?.({ code: 4409 });
    expect([connection.end(), socket().frames("close").length]).toEqual([true, 0]);
  });

  test("a_connection_that_cannot_send_the_end_reports_that_to_its_owner", () => {
    expect(connection.end()).toBe(false);
  });

  test("a_prompt_is_answered_once", () => {
    socket().attached({ session: { status: "connecting" } });
    socket().control({ type: "prompt", id: 4, kind: "password", title: "", text: "", fields: [] });
    connection.answer(4, ["secret"]);
    expect(socket().frames("answer")).toEqual([{ type: "answer", id: 4, values: ["secret"] }]);
    expect(seen.prompts.map((prompt) => prompt?.id ?? null)).toEqual([4, null]);
  });

  test("a_prompt_stays_while_its_socket_is_lost_until_the_login_is_over", async () => {
    socket().attached({ session: { status: "connecting" } });
    socket().control({ type: "prompt", id: 4, kind: "password", title: "", text: "", fields: [] });
    socket().onclose?.({ code: 1006 });
    connection.answer(4, ["secret"]);
    expect(seen.prompts.map((prompt) => prompt?.id ?? null)).toEqual([4]);
    await pass(250);
    socket().attached();
    expect(seen.prompts.at(-1)).toBe(null);
  });

  test("frames_of_a_newer_gateway_and_nonsense_are_ignored", () => {
    socket().attached();
    socket().control({ type: "confetti" });
    socket().onmessage?.({ data: "{" });
    expect(connection.phase.kind).toBe("attached");
  });
});

describe("control", () => {
  const hold = (turn: number, typing: boolean, input_offset: number, name: string | null = null): Control => ({
    turn,
    typing,
    name,
    may: "take",
    input_offset,
    message: "",
  });
  const moves = (control: Control) => socket().control({ type: "control", ...control });

  test("input_not_taken_when_control_moved_is_reported_and_never_sent", () => {
    socket().attached({ control: hold(0, true, 0) });
    connection.input(new Uint8Array(10));
    moves(hold(1, false, 4, "maria"));
    expect([seen.unsent, seen.controls.at(-1)?.name]).toEqual([[6], "maria"]);
    connection.input(new Uint8Array(3));
    expect(socket().input).toEqual([10]);
    moves(hold(2, true, 4));
    expect(socket().frames("typing")).toEqual([{ type: "typing", turn: 2 }]);
    connection.input(new Uint8Array(5));
    expect([socket().input, seen.unsent]).toEqual([[10, 5], [6]]);
    // The turn is sent before any input of it.
    const said = socket().sent.findIndex((frame) => (frame as { type?: string }).type === "typing");
    expect(socket().sent.findIndex((frame, at) => at > 1 && frame instanceof Uint8Array && frame.length === 5)).toBeGreaterThan(said);
  });

  test("a_page_that_comes_back_in_the_same_turn_sends_the_rest_and_in_another_forgets_it", async () => {
    socket().attached({ control: hold(3, true, 0) });
    connection.input(new Uint8Array(10));
    socket().onclose?.({ code: 1006 });
    connection.input(new Uint8Array(2));
    await pass(250);
    socket().attached({ input: 4, control: hold(3, true, 4) });
    expect([socket().input, seen.unsent]).toEqual([[6, 2], []]);
    socket().onclose?.({ code: 1006 });
    connection.input(new Uint8Array(7));
    await pass(250);
    socket().attached({ input: 6, control: hold(5, true, 6) });
    expect([socket().input, seen.unsent, seen.waiting]).toEqual([[], [6 + 7], null]);
    connection.input(new Uint8Array(1));
    expect(socket().input).toEqual([1]);
  });

  test("what_was_typed_while_away_is_not_sent_to_a_shell_that_a_guest_types_in", async () => {
    socket().attached({ control: hold(0, true, 0) });
    socket().onclose?.({ code: 1006 });
    connection.input(new Uint8Array(7));
    await pass(250);
    socket().attached({ control: hold(1, false, 0, "maria") });
    expect([socket().input, seen.unsent, seen.waiting]).toEqual([[], [7], null]);
  });

  test("a_page_sends_its_size_only_while_it_has_control", async () => {
    socket().attached({ control: hold(0, true, 0) });
    moves(hold(1, false, 0, "maria"));
    connection.resize(100, 30);
    await pass(100);
    expect(socket().frames("resize")).toEqual([]);
    socket().control({ type: "size", cols: 90, rows: 20 });
    moves(hold(2, true, 0));
    socket().control({ type: "size", cols: 91, rows: 21 });
    expect(seen.sizes).toEqual([[90, 20]]);
    expect(socket().frames("resize")).toEqual([{ type: "resize", cols: 100, rows: 30 }]);
  });

  test("requests_for_control_and_their_outcome_are_shown_and_forgotten_with_the_socket", () => {
    socket().attached({ control: hold(0, true, 0) });
    const items = [{ id: 7, name: "maria", ends_in_ms: 60000 }];
    socket().control({ type: "control_requests", items });
    expect(seen.requests).toEqual(items);
    connection.answerRequest(7, true);
    connection.answerRequest(8, false);
    connection.takeControl();
    expect(socket().sent.slice(-3)).toEqual([
      { type: "grant_control", id: 7 },
      { type: "refuse_control", id: 8 },
      { type: "take_control" },
    ]);
    socket().control({ type: "control_answer", outcome: "waiting", message: "Ada is asked." });
    socket().onclose?.({ code: 1006 });
    expect([seen.answers, seen.requests]).toEqual([["waiting", null], []]);
  });
});
