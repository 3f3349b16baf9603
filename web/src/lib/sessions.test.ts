// Tests that the list of sessions stays true on a slow network, where a user's request overtakes an answer and a timer's
// does not, and in a browser with few connections.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { SessionPage } from "./api";
import type { Node, Session } from "./protocol";
import { SEATS } from "./seats";
import { LiveSessions } from "./sessions.svelte";

/** A session as an answer shows it; of some only the id matters. */
type Shown = string | (Pick<Session, "id" | "version" | "status"> & { node?: string });

/** A request of the list, which the test answers. */
interface Question {
  q: string | null;
  answer(...sessions: Shown[]): Promise<void>;
  fail(): Promise<void>;
}

let questions: Question[];
let stream: { emit(type: string, data?: object): void; refuse(): void };
/** How many streams are open. */
let streams: number;
/** The gateways that share the list, those of them that are lost, and how often they were asked for. */
let nodes: string[];
let lost: string[];
let looks: number;
/** The stores that the list says are down or behind. */
let degraded: string[];
/** The status of the answer to a request to end a session. */
let ends: number;
let seen: Page;
let live: LiveSessions;
let stop: () => void;

const pass = async (ms: number) => void (await vi.advanceTimersByTimeAsync(ms));
const question = (nth: number) => questions[nth] as Question;
const page = (...sessions: Shown[]): SessionPage => ({
  items: sessions.map((one) => (typeof one === "string" ? { id: one, version: 1 } : one) as Session),
  next_cursor: null,
  as_of: "2026-01-01T00:00:00Z",
  degraded,
});

class Stream extends EventTarget {
  static CLOSED = 2;
  readyState = 1;
  constructor() {
    super();
    streams += 1;
    const emit = (type: string, data?: object) => void this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) }));
    stream = { emit, refuse: () => ((this.readyState = Stream.CLOSED), emit("error")) };
  }
  close() {
    streams -= 1;
  }
}

/** The document, as far as its visibility goes. */
class Page extends EventTarget {
  visibilityState = "visible";
  become(state: "visible" | "hidden") {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

/** The locks of one browser, as far as they are used. */
class Locks {
  #held = new Set<string>();
  async request(name: string, _options: LockOptions, hold: (lock: object | null) => unknown) {
    if (this.#held.has(name)) return hold(null);
    this.#held.add(name);
    await hold({ name });
    this.#held.delete(name);
  }
}

/** Starts `many` lists, each in a window of its own. */
function lists(many: number): { all: LiveSessions[]; stop: () => void } {
  const all = Array.from({ length: many }, () => new LiveSessions());
  const stops = all.map((one) => one.follow());
  return { all, stop: () => stops.forEach((stop) => stop()) };
}

/** A gateway as an answer shows it. */
const standing = (id: string): Node => ({ id, own: id === "a", standing: lost.includes(id) ? "lost" : "serving" });

function fetched(url: string, init: RequestInit): Promise<Response> {
  if (url.endsWith("/nodes")) {
    looks += 1;
    return Promise.resolve(Response.json({ nodes: nodes.map(standing) }));
  }
  if (init.method === "DELETE") return Promise.resolve(ends === 204 ? new Response(null, { status: ends }) : Response.json({ detail: "Not confirmed." }, { status: ends }));
  return new Promise((resolve, reject) => {
    questions.push({
      q: new URL(url, "http://gateway").searchParams.get("q"),
      answer: (...sessions) => (resolve(Response.json(page(...sessions))), pass(0)),
      fail: () => (reject(new TypeError("no network")), pass(0)),
    });
  });
}

beforeEach(async () => {
  vi.useFakeTimers();
  [questions, streams, nodes, seen] = [[], 0, ["a", "b"], new Page()];
  [lost, looks, degraded, ends] = [[], 0, [], 503];
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("document", seen);
  vi.stubGlobal("navigator", { locks: new Locks() });
  live = new LiveSessions();
  stop = live.follow();
  await pass(0);
  stream.emit("open");
});
afterEach(() => {
  stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a_slow_answer_counts", async () => {
  await pass(14_000);
  expect(questions.length).toBe(1);
  await question(0).answer("s");
  expect(live.items.map(({ id }) => id)).toEqual(["s"]);
});

test("a_network_that_is_gone_is_reported_until_it_is_back", async () => {
  await question(0).answer("s");
  await pass(16_000);
  expect(questions.length).toBe(2);
  await question(1).fail();
  expect([live.error, live.items.length]).toMatchObject([{ status: 0 }, 1]);
  await pass(1_000);
  expect(live.error).not.toBeNull();
  await question(2).answer("s");
  expect(live.error).toBeNull();
});

test("a_stream_that_breaks_is_looked_into_at_once_and_many_errors_cost_one_fetch_at_a_time", async () => {
  await question(0).answer("s");
  stream.emit("error");
  expect(questions.length).toBe(2);
  for (let n = 0; n < 8; n += 1) {
    stream.emit("error");
    await pass(100);
  }
  expect(questions.length).toBe(2);
  await question(1).fail();
  expect([live.error, live.items.length, live.asOf]).toMatchObject([{ status: 0 }, 1, page().as_of]);
  stream.emit("open");
  await question(2).answer("s");
  expect(live.error).toBeNull();
});

test("a_list_that_is_opened_without_a_gateway_says_so_at_once", async () => {
  stop();
  const before = questions.length;
  const one = lists(1);
  await pass(0);
  stream.emit("error");
  expect(questions.length).toBe(before + 1);
  await question(before).fail();
  expect(one.all[0]).toMatchObject({ error: { status: 0 }, loaded: false });
  one.stop();
});

test("a_search_overtakes_an_answer_under_way", async () => {
  live.search = "web";
  live.refetchSoon();
  await pass(250);
  expect(questions.map(({ q }) => q)).toEqual([null, "web"]);
  await question(1).answer("web");
  await question(0).answer("all", "web");
  expect(live.items.map(({ id }) => id)).toEqual(["web"]);
});

test("a_list_that_is_empty_says_of_which_filters", async () => {
  await question(0).answer();
  live.search = "web";
  void live.refetch();
  expect(live).toMatchObject({ loaded: true, filtered: false });
  await question(1).answer();
  live.search = "";
  void live.refetch();
  expect(live.filtered).toBe(true);
  await question(2).answer();
  expect(live.filtered).toBe(false);
});

test("what_happens_while_an_answer_is_under_way_is_fetched_behind_it", async () => {
  for (const id of ["x", "y", "z"]) {
    stream.emit("session", { session: { id, version: 1 } });
    await pass(300);
  }
  expect(questions.length).toBe(1);
  await question(0).answer("s");
  await pass(250);
  expect(questions.length).toBe(2);
  await question(1).answer("s", "x", "y", "z");
  expect(live.items.length).toBe(4);
});

test("the_later_version_counts_and_a_close_above_every_open_one", async () => {
  const [lost, late, over] = [
    { id: "s", version: 4, status: "lost" },
    { id: "s", version: 3, status: "active" },
    { id: "s", version: 3, status: "closed" },
  ] as const;
  const shown = () => live.items.map(({ version, status }) => ({ version, status }));
  const refetched = async (session: Shown) => {
    void live.refetch();
    await question(questions.length - 1).answer(session);
  };
  const told = (session: Shown) => stream.emit("session", { session });
  for (const tell of [told, refetched]) {
    live.items = [];
    await refetched(lost);
    await tell(late);
    expect(shown()).toMatchObject([{ version: 4 }]);
    await tell(over);
    expect(shown()).toMatchObject([{ version: 3, status: "closed" }]);
    await tell(lost);
    expect(shown()).toMatchObject([{ version: 3, status: "closed" }]);
  }
});

test("a_list_that_is_left_fetches_nothing_more", async () => {
  stop();
  await question(0).answer("s");
  await pass(60_000);
  expect([live.items.length, questions.length]).toEqual([0, 1]);
});

test("a_page_behind_holds_no_connection_and_catches_up_in_front", async () => {
  await question(0).answer("s");
  seen.become("hidden");
  await pass(60_000);
  expect([streams, questions.length]).toEqual([0, 1]);
  seen.become("visible");
  await pass(0);
  stream.emit("open");
  expect([streams, questions.length]).toEqual([1, 2]);
  stop();
  seen.become("visible");
  await pass(0);
  expect(streams).toBe(0);
});

test("a_page_that_goes_behind_while_it_asks_for_a_seat_holds_none", async () => {
  for (const state of ["hidden", "visible", "hidden"] as const) seen.become(state);
  await pass(0);
  expect(streams).toBe(0);
  seen.visibilityState = "visible";
  const others = lists(SEATS);
  await pass(0);
  expect(streams).toBe(SEATS);
  others.stop();
});

test("more_lists_in_front_than_a_browser_has_connections_for_look_every_second_until_a_seat_is_free", async () => {
  stop();
  await pass(0);
  nodes = ["a"];
  const before = questions.length;
  const [first, others] = [lists(1), lists(SEATS)];
  await pass(0);
  expect(streams).toBe(SEATS);
  // The one without a seat fetches at once, and then by its timer.
  expect(questions.length).toBe(before + 1);
  await question(before).answer("s");
  await pass(1_000);
  expect(questions.length).toBe(before + 2);
  await question(before + 1).answer("s", "x");
  expect(others.all.at(-1)?.items.length).toBe(2);
  first.stop();
  expect(streams).toBe(SEATS - 1);
  await pass(10_000);
  expect(streams).toBe(SEATS);
  others.stop();
});

test("a_browser_that_cannot_count_its_pages_looks_every_second", async () => {
  stop();
  nodes = ["a"];
  vi.stubGlobal("navigator", {});
  const before = questions.length;
  const one = lists(1);
  await pass(0);
  expect([streams, questions.length]).toEqual([0, before + 1]);
  await question(before).answer("s");
  await pass(1_000);
  expect(questions.length).toBe(before + 2);
  one.stop();
});

test("a_list_whose_stream_the_gateway_refuses_looks_every_second", async () => {
  stop();
  nodes = ["a"];
  const before = questions.length;
  const one = lists(1);
  await pass(0);
  stream.refuse();
  await question(before).answer("s");
  await pass(1_000);
  expect(questions.length).toBe(before + 2);
  await question(before + 1).answer("s", "x");
  expect(one.all[0]?.items.length).toBe(2);
  one.stop();
});

/** Answers the next fetch of a list that asks every second. */
async function next(...sessions: Shown[]): Promise<void> {
  const before = questions.length;
  await pass(1_000);
  expect(questions.length).toBe(before + 1);
  await question(before).answer(...sessions);
}

test("a_silent_gateway_is_told_with_its_sessions_and_no_longer_once_they_are_back", async () => {
  const there = (status: Session["status"]) => ({ id: "s", version: 1, status, node: "b" });
  await question(0).answer(there("active"));
  expect([looks, live.silent]).toEqual([1, []]);
  lost = ["b"];
  await next(there("lost"));
  expect(live.silent).toEqual(["b"]);
  lost = [];
  await next({ ...there("closed"), version: 2 });
  expect(live.silent).toEqual([]);
  const before = looks;
  await next({ ...there("closed"), version: 2 });
  expect(looks, "while nothing is lost").toBe(before);
});

test("nobody_is_told_to_be_silent_while_no_store_carries_their_word", async () => {
  [lost, degraded] = [["b"], ["records"]];
  await question(0).answer({ id: "s", version: 1, status: "lost", node: "b" });
  expect([live.silent, live.isCutOff]).toEqual([["b"], false]);
  degraded = ["records", "live"];
  await next({ id: "s", version: 1, status: "lost", node: "b" });
  expect([live.silent, live.isCutOff]).toEqual([[], true]);
});

test("an_end_that_failed_is_told_of_its_session_until_the_list_shows_it_closed", async () => {
  const [one, other] = ["s", "t"].map((id) => ({ id, version: 1, status: "lost" }) as Session) as [Session, Session];
  await question(0).answer(one, other);
  await live.end(one);
  expect(live.unended).toMatchObject({ session: { id: "s" }, error: { detail: "Not confirmed." } });
  await next(one, { ...other, status: "closed" });
  expect(live.unended).not.toBeNull();
  await next(other);
  expect(live.unended).not.toBeNull();
  await next({ ...one, status: "closed" }, other);
  expect(live.unended).toBeNull();
});

test("an_end_that_failed_is_told_until_it_is_dismissed_or_another_one_is_asked_for", async () => {
  const session = { id: "s", version: 1, status: "lost" } as Session;
  await question(0).answer(session);
  await live.end(session);
  live.dismiss();
  expect(live.unended).toBeNull();
  await live.end(session);
  expect(live.unended).not.toBeNull();
  ends = 204;
  await live.end(session);
  expect(live.unended).toBeNull();
});
