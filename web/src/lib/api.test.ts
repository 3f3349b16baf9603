// Tests the effects of a refusal for lack of a sign-in: the page learns who is signed in, or that nobody is.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as api from "./api";

let statuses: Record<string, number>;
let asked: string[];
let told: api.ApiError[];
let found: string[];
let reasons: string[];

beforeEach(() => {
  [statuses, asked, told, found, reasons] = [{}, [], [], [], []];
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(url);
    const [, status = 200] = Object.entries(statuses).find(([path]) => url === `/api/v1${path}`) ?? [];
    return Promise.resolve(Response.json({ type: "/problems/nobody-named", detail: "Why.", user: "ada" }, { status }));
  });
  api.onSignIn((who, why) => (who instanceof api.ApiError ? told.push(who) : found.push(who.user)) && reasons.push(why));
});
afterEach(() => vi.unstubAllGlobals());

test("a_user_who_is_signed_out_is_notified_before_the_call_fails", async () => {
  statuses = { "/targets": 401, "/me": 401 };
  const toldByThen = await api.targets().catch(() => told.map(({ kind, detail }) => [kind, detail]));
  expect(toldByThen).toEqual([["nobody-named", "Why."]]);
});

test("a_call_waits_longer_than_the_gateway_waits_for_its_records", async () => {
  const limit = vi.spyOn(AbortSignal, "timeout");
  await api.nodes();
  expect(limit.mock.lastCall?.[0]).toBeGreaterThan(15_000 + 3_000);
  limit.mockRestore();
});

test("a_recording_that_cannot_be_fetched_asks_too", async () => {
  statuses = { "/sessions/s/recording": 401, "/me": 401 };
  await expect(api.recording("s", 0, new AbortController().signal).next()).rejects.toMatchObject({ status: 401 });
  expect(told.length).toBe(1);
});

test("a_recording_that_breaks_off_may_go_on_later", async () => {
  let breaks: (error: Error) => void = () => {};
  const body = new ReadableStream({
    start(stream) {
      stream.enqueue(Uint8Array.of(1));
      breaks = (error) => stream.error(error);
    },
  });
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(body, { status: 206 })));
  const pieces = api.recording("s", 0, new AbortController().signal);
  expect((await pieces.next()).value).toEqual(Uint8Array.of(1));
  breaks(new TypeError("network error"));
  await expect(pieces.next()).rejects.toMatchObject({ status: 0, mayPass: true });
});

test.each([200, 429, 503])("while_me_answers_%i_nobody_is_signed_out", async (me) => {
  statuses = { "/sessions/s": 401, "/me": me };
  await expect(api.session("s")).rejects.toMatchObject({ status: 401 });
  await api.checkSignIn();
  expect([told.length, asked]).toEqual([0, ["/api/v1/sessions/s", "/api/v1/me", "/api/v1/me"]]);
});

test.each([
  [404, "missing"],
  [403, "unsaid"],
  [200, { found: expect.objectContaining({ user: "ada" }) }],
])("a_lookup_that_is_answered_%i_tells_what_is_known", async (status, known) => {
  statuses = { "/sessions/s": status };
  expect(await api.lookup("s")).toEqual(known);
});

test.each([200, 502])("a_page_of_a_proxys_with_%i_is_no_answer_of_the_gateway_to_a_lookup", async (status) => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("<h1>Sign in to this network</h1>", { status })));
  await expect(api.lookup("s")).rejects.toMatchObject({ isAnswer: false });
});

test("checking_the_sign_in_reports_who_is_signed_in_and_why_nobody_is", async () => {
  await api.checkSignIn("ada signed out");
  statuses = { "/me": 401 };
  await api.checkSignIn("ada signed out");
  expect([found, told.length, reasons]).toEqual([["ada"], 1, ["ada signed out", "ada signed out"]]);
});

test("wrong_credentials_and_asking_who_is_signed_in_sign_nobody_out", async () => {
  statuses = { "/login": 401, "/login/oidc/finish": 401, "/me": 401 };
  for (const call of [api.login({ token: "t" }), api.finishWithProvider({ state: "s" }), api.me()]) {
    await expect(call).rejects.toMatchObject({ status: 401 });
  }
  expect([told.length, asked.length]).toEqual([0, 3]);
});

test.each([
  [401, 401],
  [503, 401],
])("a_sign_out_that_is_answered_%i_is_one_once_nobody_is_signed_in", async (logout, me) => {
  statuses = { "/logout": logout, "/me": me };
  expect(await api.logout()).toMatchObject({ url: null, error: { status: logout } });
});

test.each([200, 201, 202])("a_page_of_a_proxys_with_%i_is_no_answer_to_anything", async (status) => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("<h1>Welcome</h1>", { status })));
  for (const call of [api.logout(), api.me(), api.endSession("s")]) await expect(call).rejects.toMatchObject({ status: 0 });
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(null, { status })));
  await expect(api.logout()).rejects.toMatchObject({ status: 0 });
});

test("a_sign_out_that_the_gateway_confirms_is_one", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(null, { status: 204 })));
  expect(await api.logout()).toEqual({ url: null, error: null });
});

test.each([
  [502, 401],
  [503, 200],
  [503, 503],
])("a_sign_out_that_is_answered_%i_while_me_answers_%i_is_none", async (logout, me) => {
  statuses = { "/logout": logout, "/me": me };
  await expect(api.logout()).rejects.toMatchObject({ status: logout });
});
