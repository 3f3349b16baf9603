// Tests that a list which the gateway searches is asked for once: when a search is typed, and with each filter.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("a search is asked for once it is typed, and a filter once", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const asked = [];
  desk.page.on("request", (request) => asked.push(new URL(request.url()).searchParams));
  const times = (key, value, without = "") => asked.filter((query) => query.get(key) === value && !query.has(without)).length;

  await desk.at("nav-audit").click();
  await desk.at("audit-row").first().waitFor();
  await desk.at("audit-action").selectOption("sign_in");
  await until("the filtered log", () => times("action", "sign_in") > 0);
  await typeInSteps(desk.at("audit-actor"), ["nob", "nobody"]);
  await until("the search", () => times("actor", "nobody") > 0);
  assert.deepEqual([times("actor", "nob"), times("action", "sign_in", "actor")], [0, 1]);

  await desk.at("nav-host-keys").click();
  await typeInSteps(desk.at("known-search"), ["exa", "example"]);
  await until("the search", () => times("q", "example") > 0);
  assert.equal(times("q", "exa"), 0);
});

/** Types each text in the place of the one before, faster than a search waits, but so that the page can follow. */
function typeInSteps(field, texts) {
  return field.evaluate(async (input, texts) => {
    for (const text of texts) {
      input.value = text;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      await new Promise((done) => setTimeout(done));
    }
  }, texts);
}
