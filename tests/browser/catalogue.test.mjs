// Tests managing targets in the browser: one is added with a password, opened, changed, and removed.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const KEPT = "kept horse battery";

/** Fills the form for a target that leads to the playground, and saves it with the keyboard alone. */
async function add(desk, playground) {
  await desk.at("target-add").press("Enter");
  await desk.at("target-name").fill("mine");
  await desk.at("target-host").fill(playground.host);
  await desk.at("target-port").fill(String(playground.port));
  await desk.at("target-username").fill("guest");
  await desk.at("target-auth").selectOption("password");
  await desk.at("target-save").press("Enter");
  assert.match(await desk.page.locator("#target-auth-problem").innerText(), /Give the password/);
  await desk.isAccessible();
  await desk.at("target-auth").selectOption("private_key");
  await desk.isAccessible();
  await desk.at("target-auth").selectOption("password");
  await desk.at("target-password").fill(KEPT);
  await desk.at("target-group").fill("Workshop");
  await desk.at("target-tags").fill("lab, mine");
  await desk.page.keyboard.press("Enter");
  await desk.at("target-mine").waitFor();
}

promise("an administrator adds a target with a password, opens it, and its end is the end of its terminals", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const [playground] = (await gateway.get("/targets")).items;
  await add(desk, playground);
  assert.deepEqual(await desk.page.locator("h3").allInnerTexts(), ["Workshop", "Others"]);
  await desk.isAccessible();
  assert.equal(await desk.at("change-playground").count(), 0, "the one of the configuration is not changed here");
  const told = (await gateway.get("/targets")).items.find(({ name }) => name === "mine");
  assert.deepEqual([told.auth, told.source, told.tags], ["password", "records", ["lab", "mine"]]);
  assert.ok(!JSON.stringify(told).includes(KEPT));

  await desk.at("target-mine").click();
  await desk.reads(/^Pulsegate playground$/m);
  const id = await desk.sessionId();

  await desk.at("nav-new").click();
  await desk.at("change-mine").click();
  assert.equal(await desk.at("target-password").count(), 0, "what is kept is not shown");
  await desk.isAccessible();
  await desk.at("target-username").fill("somebody");
  await desk.at("target-save").click();
  assert.match(await desk.page.locator("#target-auth-problem").innerText(), /for guest@127\.0\.0\.1.* only\. Replace it/);
  await desk.at("target-username").fill("guest");
  await desk.at("target-replace").click();
  await desk.at("target-password").fill("another");
  await desk.at("target-group").fill("");
  await desk.at("target-save").click();
  await until("the group to go", async () => (await desk.page.locator("h3").count()) === 0);

  await desk.at("change-mine").click();
  await desk.at("target-remove").click();
  await desk.at("typed-name").fill("mine");
  await desk.page.keyboard.press("Enter");
  await desk.at("target-mine").waitFor({ state: "detached" });
  await until("its session's end", async () => (await gateway.get(`/sessions/${id}`)).end_reason === "revoked");
});

promise("a target is put behind jump hosts, and they stay while it needs them", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const [playground] = (await gateway.get("/targets")).items;
  await add(desk, playground);
  await desk.at("target-add").click();
  await desk.at("target-name").fill("inner");
  await desk.at("target-host").fill("inner.internal");
  await desk.at("target-username").fill("deploy");
  await desk.at("target-via").selectOption("playground");
  await desk.at("target-via").selectOption("mine");
  assert.deepEqual(await desk.at("target-jumps").locator("li span").allInnerTexts(), ["playground", "mine"]);
  await desk.isAccessible();
  await desk.at("drop-playground").press("Enter");
  assert.equal(await desk.page.evaluate(() => document.activeElement?.id), "target-via");
  await desk.at("target-save").click();
  assert.match(await desk.at("target-inner").innerText(), /deploy@inner\.internal.*via mine/);

  await desk.at("change-mine").click();
  const offered = await desk.at("target-via").locator("option").allInnerTexts();
  assert.deepEqual(offered.slice(1), ["playground"], "neither itself nor what lies behind it");
  await desk.at("target-remove").click();
  await desk.at("typed-name").fill("mine");
  await desk.page.keyboard.press("Enter");
  await desk.page.getByText("mine is a jump host of inner.").waitFor();
  assert.equal(await desk.at("target-mine").count(), 1);

  await desk.at("change-inner").click();
  await desk.at("drop-mine").click();
  await desk.at("target-save").click();
  await until("the way to go", async () => !/via/.test(await desk.at("target-inner").innerText()));
  const told = (await gateway.get("/targets")).items.find(({ name }) => name === "inner");
  assert.deepEqual([told.via, told.way], [[], []]);
});
