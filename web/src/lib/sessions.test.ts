// Tests that the list of sessions stays true on a slow network: a clock overtakes no answer, a person does.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { SessionPage } from "./api";
import type { Session } from "./protocol";
import { LiveSessions } from "./sessions.svelte";

/** A question the list asked, which the test answers. */
interface Question {
  q: string | null;
  answer(...ids: string[]): Promise<void>;
  fail(): Promise<void>;
}

let questions: Question[];
let stream: { emit(type: string, data?: object): void };
/** How many streams are open. */
let streams: number;
let seen: Page;
let live: LiveSessions;
let stop: () => void;

const pass = async (ms: number) => void (await vi.advanceTimersByTimeAsync(ms));
const question = (nth: number) => questions[nth] as Question;
const page = (...ids: string[]): SessionPage => ({
  items: ids.map((id) => ({ id, version: 1 }) as Session),
  next_cursor: null,
  as_of: "2026-01-01T00:00:00Z",
  degraded: [],
});

class Stream extends EventTarget {
  static CLOSED = 2;
  readyState = 1;
  constructor() {
    super();
    streams += 1;
    stream = { emit: (type, data) => void this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) })) };
  }
  close() {
    streams -= 1;
  }
}

/** The document, as far as it is seen or not. */
class Page extends EventTarget {
  visibilityState = "visible";
  become(state: "visible" | "hidden") {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

function fetched(url: string): Promise<Response> {
  if (url.endsWith("/nodes")) return Promise.resolve(Response.json({ nodes: [{ id: "a", own: true }, { id: "b" }] }));
  return new Promise((resolve, reject) => {
    questions.push({
      q: new URL(url, "http://gateway").searchParams.get("q"),
      answer: (...ids) => (resolve(Response.json(page(...ids))), pass(0)),
      fail: () => (reject(new TypeError("no network")), pass(0)),
    });
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  [questions, streams, seen] = [[], 0, new Page()];
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("document", seen);
  live = new LiveSessions();
  stop = live.follow();
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

test("a_network_that_is_gone_is_told_until_it_is_back", async () => {
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

test("a_person_who_searches_overtakes_an_answer_under_way", async () => {
  live.search = "web";
  live.refetchSoon();
  await pass(250);
  expect(questions.map(({ q }) => q)).toEqual([null, "web"]);
  await question(1).answer("web");
  await question(0).answer("all", "web");
  expect(live.items.map(({ id }) => id)).toEqual(["web"]);
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

test("whoever_looks_elsewhere_hears_no_more", async () => {
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
  stream.emit("open");
  expect([streams, questions.length]).toEqual([1, 2]);
  stop();
  seen.become("visible");
  expect(streams).toBe(0);
});
