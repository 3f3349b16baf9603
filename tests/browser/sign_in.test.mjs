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
  await desk.at("signin-name").fill(name);
  await desk.at("signin-password").fill(PASSWORD);
  await desk.at("signin-submit").click();
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
