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

promise("the audit log never shows what two filters let through in one list, whatever fails or is clicked", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  // Entry by entry, so that there are always more.
  const shortened = (route) => route.continue({ url: route.request().url().replace("limit=100", "limit=1") });
  await desk.page.route(/\/audit\?/, shortened);
  const rows = desk.at("audit-row");
  await desk.at("nav-audit").click();
  await rows.first().waitFor();
  await desk.at("audit-more").click();
  await until("two entries", async () => (await rows.count()) === 2);

  await desk.page.route(/\/audit\?.*action=sign_in/, (route) => route.abort(), { times: 1 });
  await desk.at("audit-action").selectOption("sign_in");
  await desk.page.getByText("The gateway does not answer.").waitFor();
  assert.deepEqual([await rows.count(), await desk.at("audit-more").count()], [0, 0]);
  assert.ok(await desk.at("audit-csv").isDisabled());
  await desk.page.getByRole("button", { name: "Try again" }).click();
  await rows.first().waitFor();
  assert.deepEqual(await rows.locator("td[data-label=Action]").allInnerTexts(), ["sign_in"]);

  // What is typed is not asked for at once: more is of the list that is shown.
  const all = desk.page.waitForResponse((response) => /\/audit\?limit=\d+$/.test(response.url()));
  await desk.at("audit-action").selectOption("");
  await all;
  await desk.at("audit-more").waitFor();
  const asked = desk.page.waitForRequest((request) => request.url().includes("cursor="));
  await desk.page.evaluate(() => {
    const at = (id) => document.querySelector(`[data-testid=${id}]`);
    at("audit-actor").value = "nobody";
    at("audit-actor").dispatchEvent(new Event("input", { bubbles: true }));
    at("audit-more").click();
  });
  assert.ok(!(await asked).url().includes("nobody"));
  await rows.first().waitFor({ state: "detached" });
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
