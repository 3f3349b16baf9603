// Tests which tabs a page remembers, and for which user, and which view an address names.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Session } from "./protocol";

/** The part of a page that a workspace lives in; a reload keeps `kept`. */
const kept = vi.hoisted(() => {
  const kept = new Map<string, string>();
  const location = {
    hash: "",
    replace(hash: string) {
      location.hash = hash;
    },
  };
  Object.assign(globalThis, {
    location,
    addEventListener: () => {},
    sessionStorage: { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value) },
  });
  return kept;
});
import { bareName, parseRoute, trouble, Workspace } from "./workspace.svelte";

const session = (id: string) => ({ id, target: "web-1" }) as Session;
const ids = (workspace: Workspace) => workspace.tabs.map(({ id }) => id);

beforeEach(() => {
  kept.clear();
  location.hash = "";
});
afterEach(() => vi.unstubAllGlobals());

test("tabs_outlive_a_reload_of_their_owners_page_and_no_other_sign_in", () => {
  const before = new Workspace();
  before.belongTo("ada");
  before.add(session("a"));
  before.update("a", { title: "vim secret-plans" });

  const reloaded = new Workspace();
  reloaded.belongTo("ada");
  expect([ids(reloaded), location.hash]).toEqual([["a"], "#/s/a"]);

  const others = new Workspace();
  others.belongTo("bob");
  expect([ids(others), location.hash]).toEqual([[], "/new"]);
  expect([...kept.values()].join()).not.toContain("secret-plans");
});

test("a_tab_counts_as_asked_for_when_it_is_added_and_not_after_a_reload", () => {
  const before = new Workspace();
  before.add(session("a"));
  expect([...before.asked]).toEqual(["a"]);
  const reloaded = new Workspace();
  reloaded.add(session("a"));
  expect([ids(reloaded), [...reloaded.asked]]).toEqual([["a"], []]);
});

test("a_user_who_follows_a_link_while_anothers_tabs_are_kept_gets_where_it_leads", () => {
  const before = new Workspace();
  before.belongTo("ada");
  before.add(session("a"));
  location.hash = "#/s/b";
  const others = new Workspace();
  others.belongTo("bob");
  expect([ids(others), location.hash]).toEqual([[], "#/s/b"]);
});

test("tabs_of_one_target_are_told_apart_by_a_number_and_a_new_shell_keeps_its_tabs", () => {
  const workspace = new Workspace();
  for (const id of ["a", "b", "c"]) workspace.add(session(id));
  workspace.add(session("d"), workspace.tabs[1]);
  expect(workspace.tabs.map(({ id, name }) => [id, name])).toEqual([["a", "web-1"], ["d", "web-1 2"], ["c", "web-1 3"]]);
  expect(workspace.tabs[1]?.destination).toEqual({ target: "web-1" });
  // As the bar shows them: the number is never cut off.
  expect(workspace.tabs.map((tab) => [bareName(tab), tab.number])).toEqual([["web-1", undefined], ["web-1", 2], ["web-1", 3]]);
});

test("a_tab_says_that_its_gateway_does_not_answer_though_the_connection_stands", () => {
  const workspace = new Workspace();
  workspace.add(session("a"));
  const said = (change: Parameters<Workspace["update"]>[1]) => {
    workspace.update("a", change);
    return workspace.tabs.map(trouble);
  };
  expect([said({}), said({ unanswered: true }), said({ away: true }), said({ away: false, unanswered: false })]).toEqual([
    [undefined],
    ["no answer"],
    ["reconnecting"],
    [undefined],
  ]);
});

test.each([
  ["#/open/web%201", { view: "open", target: "web 1" }],
  ["#/open/%", { view: "connect" }],
  ["#/r/x/t=12", { view: "replay", id: "x", at: 12 }],
  ["#/nowhere", { view: "connect" }],
])("%s_leads_somewhere", (hash, route) => {
  expect(parseRoute(hash)).toEqual(route);
});

test("a_tab_that_waits_for_an_answer_is_known_until_it_has_one", () => {
  const workspace = new Workspace();
  for (const id of ["a", "b"]) workspace.add(session(id));
  workspace.update("b", { needs: true });
  expect(workspace.needing.map(({ id }) => id)).toEqual(["b"]);
  workspace.update("b", { needs: false });
  expect(workspace.needing).toEqual([]);
});

test.each([
  ["takes the front", "#/new", "#/s/a"],
  ["leaves a user who moved on to another view there", "/sessions", "/sessions"],
])("a_session_that_opens_late_%s", async (_what, meanwhile, front) => {
  let opened: (response: Response) => void = () => {};
  vi.stubGlobal("fetch", () => new Promise((resolve) => (opened = resolve)));
  location.hash = "#/new";
  const workspace = new Workspace();
  const opening = workspace.open({ target: "web-1" });
  location.hash = meanwhile;
  opened(Response.json(session("a")));
  await opening;
  expect([ids(workspace), location.hash]).toEqual([["a"], front]);
});
