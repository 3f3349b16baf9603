// Tests the ways to sign in: the first admin's link, an invitation, and a second factor from QR code to recovery codes.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** Returns the code that an authenticator app shows for a secret in base 32 (RFC 6238). */
function shown(secret, milliseconds) {
  const bits = [...secret].map((letter) => LETTERS.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(milliseconds / 30_000)));
  const hash = createHmac("sha1", key).update(step).digest();
  const word = hash.readUInt32BE(hash[19] & 15) & 0x7fffffff;
  return String(word % 1_000_000).padStart(6, "0");
}

async function signIn(desk, name) {
  await desk.signInAs(name, PASSWORD);
}

promise("who signed in by a demo's link reads why they have no second factor, and where to get one", async (lab) => {
  const admin = await lab.desk(await lab.demo());
  await admin.at("nav-account").click();
  const told = admin.at("no-password");
  assert.match(await told.innerText(), /^None: admin is whoever has the gateway's own token/);
  assert.equal(await admin.at("totp-begin").count(), 0);
  await told.getByRole("link", { name: "People" }).click();
  await admin.at("person-add").waitFor();
});

promise("a sign-out that the gateway does not answer is none, and the page says so until there is an answer", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const id = await desk.openPlayground();
  await desk.page.route("**/api/v1/logout", (route) => route.abort(), { times: 1 });
  await desk.at("sign-out").click();
  await desk.page.getByRole("heading", { name: "You may still be signed in" }).waitFor();
  await desk.isAccessible();
  assert.equal(await desk.sessionId(), id);
  await desk.at("confirm-no").click();
  await desk.ask("echo still", /^still$/m);

  await desk.page.route("**/api/v1/logout", (route) => route.abort(), { times: 1 });
  await desk.at("sign-out").click();
  await desk.at("confirm-yes").click();
  await desk.at("signin-name").waitFor();
  await desk.page.reload();
  await desk.at("signin-name").waitFor();
});

promise("a fresh gateway is set up by its link, and the admin invites a user who turns a second factor on", async (lab) => {
  const gateway = await lab.fresh();
  const browser = await lab.browser();
  const root = new Desk(await browser.open(gateway.link));
  await root.at("setup-name").fill("root");
  await root.at("new-password").fill(PASSWORD);
  assert.ok(!root.page.url().includes("setup"), "the secret left the address");
  await root.at("setup-save").click();
  await root.at("nav-people").click();

  await root.at("person-add").click();
  await root.at("person-name").fill("ada");
  await root.at("person-role").selectOption("user");
  await root.at("person-invites").check();
  await root.at("person-save").click();
  const link = await root.at("link").inputValue();
  await root.at("link-done").click();

  const ada = new Desk(await (await lab.browser()).open(link));
  await until("her name", async () => (await ada.at("setup").innerText()).includes("Welcome, ada"));
  await ada.at("new-password").fill(PASSWORD);
  await ada.at("setup-save").click();
  await ada.at("nav-account").click();

  const began = Date.now();
  await ada.at("totp-password").fill(PASSWORD);
  await ada.at("totp-begin").click();
  await ada.at("qr").waitFor();
  const secret = await ada.at("totp-secret").inputValue();
  await ada.at("totp-code").fill("000000");
  await ada.at("totp-confirm").click();
  await until("the refusal", async () => (await ada.at("totp-problem").innerText()).includes("does not fit"));
  await ada.at("totp-code").fill(shown(secret, began));
  await ada.at("totp-confirm").click();
  await ada.at("recovery-codes").waitFor();
  const recovery = await ada.at("recovery-codes").locator("li").allInnerTexts();
  assert.equal(recovery.length, 10);
  await ada.at("recovery-kept").click();
  await ada.at("totp-on").waitFor();

  // In another browser the password alone is not enough, and each code works once.
  const elsewhere = new Desk(await (await lab.browser()).open(gateway.origin));
  await signIn(elsewhere, "ada");
  await elsewhere.at("signin-code").fill(shown(secret, began));
  await elsewhere.at("signin-submit").click();
  await until("the refusal", async () => (await elsewhere.at("signin-problem").innerText()).includes("used already"));
  await elsewhere.at("signin-code").fill(shown(secret, began + 30_000));
  await elsewhere.at("signin-submit").click();
  await elsewhere.at("nav-account").waitFor();

  // The phone is lost: the admin resets the factor.
  await root.page.reload();
  await root.at("nav-people").click();
  await root.at("person-reset-totp").click();
  await root.at("confirm-yes").click();
  await until("the factor to go", async () => (await root.at("person-totp").count()) === 0);

  const again = new Desk(await (await lab.browser()).open(link));
  await again.at("setup-leave").click();
  await signIn(again, "ada");
  await again.at("nav-account").waitFor();
});

promise("a link that the gateway has no answer to yet is asked about again, and works", async (lab) => {
  const gateway = await lab.fresh();
  const browser = await lab.browser();
  await browser.context.route("**/api/v1/setup", (route) => route.abort(), { times: 1 });
  const root = new Desk(await browser.open(gateway.link));
  await root.page.getByRole("heading", { name: "No answer yet" }).waitFor();
  assert.match(await root.at("setup-problem").innerText(), /does not answer/);
  await root.isAccessible();
  await root.at("setup-again").click();
  await root.at("setup-name").fill("root");
  await root.at("new-password").fill(PASSWORD);
  await root.at("setup-save").click();
  await root.at("nav-people").waitFor();
});

promise("a user who must have a second factor is led to it and nowhere else", async (lab) => {
  const gateway = await lab.demo({ "sign_in.require_totp": "[user]" });
  const made = { name: "ada", role: "user", grants: ["playground"], password: PASSWORD };
  await gateway.change("POST", "/users", made);
  const ada = new Desk(await (await lab.browser()).open(gateway.origin));
  await signIn(ada, "ada");
  await ada.at("enrol").waitFor();
  assert.equal(await ada.at("nav-new").count(), 0);
  const began = Date.now();
  await ada.at("totp-password").fill(PASSWORD);
  await ada.at("totp-begin").click();
  await ada.at("totp-code").fill(shown(await ada.at("totp-secret").inputValue(), began));
  await ada.at("totp-confirm").click();
  await ada.at("recovery-kept").click();
  await ada.openPlayground();
  await ada.ask("echo mine", /^mine$/m);
});

/** Signs in as a new user who must turn a second factor on, up to the code that does. */
async function enrols(lab) {
  const gateway = await lab.demo({ "sign_in.require_totp": "[user]" });
  await gateway.change("POST", "/users", { name: "ada", role: "user", grants: ["playground"], password: PASSWORD });
  const ada = new Desk(await (await lab.browser()).open(gateway.origin));
  await signIn(ada, "ada");
  const began = Date.now();
  await ada.at("totp-password").fill(PASSWORD);
  await ada.at("totp-begin").click();
  await ada.at("totp-code").fill(shown(await ada.at("totp-secret").inputValue(), began));
  return ada;
}

promise("recovery codes stay until they were read, also where the page is left and looked at again", async (lab) => {
  const ada = await enrols(lab);
  await ada.at("totp-confirm").click();
  await ada.at("recovery-codes").waitFor();
  // The page has learnt that the factor is on once it asks for its targets.
  const learnt = ada.page.waitForResponse("**/api/v1/targets");
  await ada.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await learnt;
  assert.equal(await ada.at("recovery-codes").locator("li").count(), 10);
  // Nor do they make way for an old state of the factor.
  await ada.page.route("**/api/v1/me", (route) => route.abort(), { times: 1 });
  await ada.at("recovery-kept").click();
  await ada.at("recovery-problem").getByText("does not answer").waitFor();
  assert.equal(await ada.at("recovery-codes").locator("li").count(), 10);
  await ada.at("recovery-kept").click();
  const id = await ada.openPlayground();

  // Nor does an answer that is missing to the page's own question take anything down.
  await ada.at("nav-account").click();
  await ada.at("totp-remove").click();
  await ada.at("totp-password").fill(PASSWORD);
  await ada.page.route("**/api/v1/me", (route) => route.abort(), { times: 1 });
  const asked = ada.page.waitForEvent("requestfailed");
  await ada.at("totp-remove-yes").click();
  await asked;
  assert.equal(await ada.at(`tab-${id}`).count(), 1);
  // It asks again by itself.
  await ada.at("enrol").waitFor();
});

promise("a page that asks again by itself undoes neither a sign-out nor what it told of one", async (lab) => {
  const ada = await enrols(lab);
  const { page } = ada;
  await ada.at("totp-confirm").click();
  await ada.at("recovery-codes").waitFor();
  let down = true;
  await page.route("**/api/v1/me", (route) => (down ? route.abort() : route.continue()));
  await page.route("**/api/v1/logout", (route) => route.abort(), { times: 1 });
  await ada.at("recovery-kept").click();
  await ada.at("recovery-problem").getByText("does not answer").waitFor();
  await ada.at("enrol-signout").click();
  await page.getByRole("heading", { name: "You may still be signed in" }).waitFor();
  let release;
  const open = new Promise((go) => (release = go));
  await page.route("**/api/v1/targets", (route) => open.then(() => route.continue()), { times: 1 });
  const held = page.waitForRequest("**/api/v1/targets");
  down = false;
  await held;
  // Now the page knows again who is signed in, and is about to show it.
  await ada.at("confirm-yes").click();
  await ada.at("signin-name").waitFor();
  const refused = page.waitForResponse("**/api/v1/me");
  release();
  await refused;
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  assert.equal(await ada.at("signin-name").count(), 1);
});

promise("whoever turned a second factor on and had no answer is told that it is on, and goes on", async (lab) => {
  const ada = await enrols(lab);
  await ada.page.route("**/api/v1/me/totp/confirm", (route) => route.fetch().then(() => route.abort()), { times: 1 });
  await ada.at("totp-confirm").click();
  await until("no answer", async () => (await ada.at("totp-problem").innerText()).includes("does not answer"));
  await ada.at("totp-confirm").click();
  assert.match(await ada.at("recovery-lost").innerText(), /is on/);
  await ada.isAccessible();
  await ada.at("recovery-kept").click();
  await ada.openPlayground();
});

promise("whoever turned a second factor on in another tab goes on in this one", async (lab) => {
  const ada = await enrols(lab);
  const other = new Desk(await ada.page.context().newPage());
  await other.page.goto(ada.page.url());
  const began = Date.now();
  await other.at("totp-password").fill(PASSWORD);
  await other.at("totp-begin").click();
  await other.at("totp-code").fill(shown(await other.at("totp-secret").inputValue(), began));
  await other.at("totp-confirm").click();
  await other.at("recovery-codes").waitFor();
  await ada.page.bringToFront();
  await ada.page.getByRole("button", { name: "Cancel" }).click();
  await ada.at("enrol-continue").click();
  await ada.at("target-playground").waitFor();
});

promise("a page that gets no answer when it is opened asks again by itself", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  let asked = 0;
  await browser.context.route("**/api/v1/me", (route) => ((asked += 1) <= 2 ? route.abort() : route.continue()));
  const desk = await lab.follow(gateway, browser);
  await desk.page.getByRole("heading", { name: "No answer from the gateway" }).waitFor();
  await desk.at("target-playground").waitFor();
  assert.equal(asked, 3);
});
