// Tests searching the catalogue, and which destinations ask for a confirmation.
import { expect, test } from "vitest";
import { couldGoOver, grouped, isProd, matching, prodAt, tagsOf, whole, type Target } from "./targets";

const target = (name: string, host: string, port: number, tags: string[]): Target => ({
  name,
  host,
  port,
  username: "deploy",
  via: [],
  way: [],
  group: null,
  tags,
  roles: [],
  auth: "prompt",
  source: "config",
  changed_at: null,
});
const DB = target("db-1", "10.0.0.5", 2201, ["prod", "db"]);
const WEB = target("web-1", "web.example", 22, ["Prod"]);
const LAB = target("lab", "lab.example", 22, ["test", "db"]);
const ALL = [DB, WEB, LAB];
const none = () => false;

test("every_word_must_be_found_in_name_place_or_tags", () => {
  expect(matching(ALL, " DB 2201 ", [], none)).toEqual([DB]);
  expect(matching(ALL, "deploy@lab", [], none)).toEqual([LAB]);
  expect(matching(ALL, "nowhere", [], none)).toEqual([]);
});

test("all_chosen_tags_must_be_there", () => {
  expect(matching(ALL, "", ["db"], none)).toEqual([DB, LAB]);
  expect(matching(ALL, "", ["db", "prod"], none)).toEqual([DB]);
});

test("favourites_come_first_and_the_rest_keeps_its_order", () => {
  expect(matching(ALL, "", [], (name) => name === "lab")).toEqual([LAB, DB, WEB]);
});

test("groups_are_headings_by_name_and_targets_without_one_come_last", () => {
  const shop = { ...WEB, group: "Shop" };
  const infra = { ...LAB, group: "Infra" };
  expect(grouped([DB, shop, infra])).toEqual([
    { name: "Infra", targets: [infra] },
    { name: "Shop", targets: [shop] },
    { name: null, targets: [DB] },
  ]);
  expect(grouped([DB, WEB])).toEqual([{ name: null, targets: [DB, WEB] }]);
  expect(grouped([])).toEqual([]);
  expect(matching([DB, shop], "shop", [], none)).toEqual([shop]);
});

test("tags_are_listed_once", () => {
  expect(tagsOf(ALL)).toEqual(["db", "prod", "Prod", "test"]);
});

test("prod_is_found_by_name_and_behind_a_typed_address", () => {
  expect(ALL.map(isProd)).toEqual([true, true, false]);
  expect(prodAt(ALL, { target: "db-1" })).toBe(DB);
  expect(prodAt(ALL, { username: "root", host: "WEB.example", port: 22 })).toBe(WEB);
  expect(prodAt(ALL, { username: "root", host: "10.0.0.5", port: 22 })).toBeUndefined();
  expect(prodAt(ALL, { target: "lab" })).toBeUndefined();
});

test("a_target_goes_over_others_but_not_over_itself_nor_what_lies_behind_it", () => {
  const behind = { ...WEB, via: ["lab"], way: ["lab"] };
  const lost = { ...target("lost", "h", 22, []), way: null };
  expect(couldGoOver([DB, behind, LAB, lost], "lab", [])).toEqual(["db-1", "lost"]);
  expect(couldGoOver([DB, behind, LAB], "", ["db-1"])).toEqual(["lab", "web-1"]);
});

test("behind_another_jump_host_it_is_another_place", () => {
  expect(whole(LAB)).toBe("deploy@lab.example");
  expect(whole({ ...DB, via: ["lab", "web-1"] })).toBe("deploy@10.0.0.5:2201 via lab via web-1");
});
