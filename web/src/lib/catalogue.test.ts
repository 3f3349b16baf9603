// Tests which of several answers a page takes for the catalogue, and what one who asked is told.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Catalogue } from "./catalogue.svelte";
import type { Target } from "./targets";

let answers: ((names: string[] | null) => void)[];

beforeEach(() => {
  answers = [];
  const answer = (names: string[] | null) =>
    names === null ? new Response(null, { status: 503 }) : Response.json({ items: names.map((name) => ({ name, tags: ["prod"] })), adhoc: true });
  vi.stubGlobal("fetch", () => new Promise((resolve) => answers.push((names) => resolve(answer(names)))));
});
afterEach(() => vi.unstubAllGlobals());

const names = (targets: Target[]) => targets.map(({ name }) => name);

test("an_answer_that_a_newer_one_overtook_is_returned_and_not_kept", async () => {
  const catalogue = new Catalogue();
  const [older, newer] = [catalogue.load("ada"), catalogue.load("ada")];
  answers[1]?.(["db-1", "db-2"]);
  await newer;
  answers[0]?.(["db-1"]);
  expect([names(await older), names(catalogue.items)]).toEqual([["db-1"], ["db-1", "db-2"]]);
});

test("the_targets_of_a_user_who_is_no_longer_signed_in_are_not_kept", async () => {
  const catalogue = new Catalogue();
  const [adas, bobs] = [catalogue.load("ada"), catalogue.load("bob")];
  answers[0]?.(["adas"]);
  await adas;
  expect([names(catalogue.items), catalogue.loaded]).toEqual([[], false]);
  answers[1]?.(["bobs"]);
  await bobs;
  expect(names(catalogue.items)).toEqual(["bobs"]);
});

test("who_asks_is_told_of_an_error_even_while_a_newer_answer_is_under_way", async () => {
  const catalogue = new Catalogue();
  const older = catalogue.load("ada");
  void catalogue.load("ada");
  answers[0]?.(null);
  await expect(older).rejects.toMatchObject({ status: 503 });
});
