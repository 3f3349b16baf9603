// Tests the words and the order of the evidence behind a status.
import { expect, test } from "vitest";
import { arrange, label } from "./evidence";

const answer = {
  session: { id: "a", end_reason: null },
  proof: "This gateway serves it.",
  owner: "node-1",
  epoch: 1,
  owner_state: { own: true, standing: "serving", epoch: 1, renewed_at: "2026-01-01T00:00:00Z", silent_ms: 0, serve_for_ms: null },
  browser_heard_at: "2026-01-01T00:00:00Z",
  last_pong_at: null,
  watchers_heard_at: null,
  peer_heard_at: null,
  last_reply_at: "2026-01-01T00:00:02Z",
  last_input_at: null,
  last_byte_in_at: "2026-01-01T00:00:01Z",
  last_output_at: null,
  controlled_by: null,
  deadlines: [{ what: "browser_lost", left_ms: 11_000 }, { what: "fenced", left_ms: 12_000 }, { what: "unheard_of", left_ms: 2_000 }],
  history: [],
  history_left_out: 0,
};

test("evidence_comes_first_and_the_gateways_bookkeeping_apart_without_what_is_unknown_or_said_twice", () => {
  expect(arrange(answer)).toEqual({
    proof: "This gateway serves it.",
    signs: {
      browser_heard_at: "2026-01-01T00:00:00Z",
      last_reply_at: "2026-01-01T00:00:02Z",
      last_byte_in_at: "2026-01-01T00:00:01Z",
      deadlines: ["The browser counts as gone in 11 s unless it answers.", "Is closed in 12 s unless its gateway renews its lease.", "unheard of in 2 s"],
    },
    gateway: { owner: "node-1", epoch: 1, standing: "serving", renewed_at: "2026-01-01T00:00:00Z", silent_ms: 0 },
    record: { id: "a" },
  });
});

test("a_later_epoch_of_the_owner_and_what_a_newer_gateway_adds_are_shown", () => {
  const state = { ...answer.owner_state, epoch: 2 };
  expect(arrange({ ...answer, owner_state: state, moon: "full" }).gateway).toMatchObject({ its_epoch_now: 2, moon: "full" });
  expect(arrange({ ...answer, owner_state: null }).gateway).toEqual({ owner: "node-1", epoch: 1 });
});

test("what_is_left_out_of_a_long_history_is_counted_in_its_place", () => {
  const history = Array.from({ length: 500 }, (_, nth) => ({ detail: `${nth}` }));
  const shown = arrange({ ...answer, history, history_left_out: 7 }).signs["history"] as unknown[];
  expect([shown.length, ...shown.slice(49, 52)]).toEqual([501, history[49], "7 more, left out here", history[50]]);
  expect(arrange({ ...answer, history, history_left_out: 0 }).signs["history"]).toBe(history);
});

test("keys_read_as_words", () => {
  expect(["last_reply_at", "last_output_at", "toString"].map(label)).toEqual(["target answered", "last output", "toString"]);
});
