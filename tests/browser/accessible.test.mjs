// Tests that every view, dialog, form and error of the UI can be used by everybody: nothing for axe to find, dark or light. Walks
// through all of them; a new view must be added to a walk.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";
/** A usual phone's window, in pixels. */
const PHONE = { width: 390, height: 844 };

/** The findings of axe on a whole walk, so that one barrier hides no other. */
class Walk {
  #found = [];

  /** Examines what the page shows. */
  async at(desk, where) {
    this.#found.push(...(await desk.barriers()).map((barrier) => `${where}, ${barrier}`));
  }

  /** Ends the walk; asserts that axe found nothing. */
  isFree() {
    assert.deepEqual(this.#found, [], this.#found.join("\n\n"));
  }
}

async function signedIn(lab, gateway, name, role, grants = ["*"]) {
  if (role !== null) await gateway.change("POST", "/users", { name, role, grants, password: PASSWORD });
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signInAs(name, PASSWORD);
  await desk.at("nav-sessions").waitFor();
  return desk;
}

promise("no barrier for a user who signs in, is invited, or turns a second factor on", async (lab) => {
  const walk = new Walk();
  const gateway = await lab.fresh();
  const browser = await lab.browser();
  const root = new Desk(await browser.open(gateway.link));
  await root.at("setup-name").waitFor();
  await walk.at(root, "set-up");
  await root.at("setup-save").click();
  await walk.at(root, "set-up with errors");
  await root.at("setup-name").fill("root");
  await root.at("new-password").fill(PASSWORD);
  await root.at("setup-save").click();
  await root.at("nav-account").click();
  await root.at("totp-begin").waitFor();
  await walk.at(root, "account");
  await root.at("password-save").click();
  await walk.at(root, "account with errors");

  await root.at("token-add").click();
  await root.at("token-form").waitFor();
  await walk.at(root, "token form");
  await root.at("token-save").click();
  await walk.at(root, "token form with errors");
  await root.at("token-name").fill("nightly");
  await root.at("token-all").check();
  await root.at("token-save").click();
  await root.at("token-secret").waitFor();
  await walk.at(root, "token shown once");
  await root.at("token-done").click();
  await root.at("token-revoke").waitFor();
  await walk.at(root, "tokens");
  await root.at("token-revoke").click();
  await walk.at(root, "token to be revoked");
  await root.at("confirm-no").click();
  await root.at("sign-out-everywhere").click();
  await walk.at(root, "sign out everywhere");
  await root.at("confirm-no").click();

  await root.at("totp-password").fill(PASSWORD);
  await root.at("totp-begin").click();
  await root.at("qr").waitFor();
  await walk.at(root, "second factor");
  await root.at("totp-code").fill("000000");
  await root.at("totp-confirm").click();
  await until("the refusal", async () => (await root.at("totp-problem").innerText()) !== "");
  await walk.at(root, "second factor with a wrong code");
  await root.at("totp-code").fill(code(await root.at("totp-secret").inputValue()));
  await root.at("totp-confirm").click();
  await root.at("recovery-codes").waitFor();
  await walk.at(root, "recovery codes");
  await root.at("recovery-kept").click();
  await root.at("totp-remove").click();
  await walk.at(root, "second factor to be taken away");

  await root.at("sign-out").click();
  await root.at("signin-name").waitFor();
  await walk.at(root, "sign-in");
  await root.signInAs("root", "wrong");
  await until("the refusal", async () => (await root.at("signin-problem").innerText()) !== "");
  await walk.at(root, "sign-in with a wrong password");
  await root.at("signin-password").fill(PASSWORD);
  await root.at("signin-submit").click();
  await root.at("signin-code").waitFor();
  await walk.at(root, "code");
  await root.at("signin-other").click();
  await root.at("signin-other").click();
  await root.at("signin-token").waitFor();
  await walk.at(root, "sign-in with a token");

  const late = new Desk(await browser.open(gateway.link));
  await until("the refusal", async () => (await late.at("setup-problem").innerText()) !== "");
  await walk.at(late, "a link that was used");
  walk.isFree();
});

promise("no barrier for an administrator of people and targets", async (lab) => {
  const walk = new Walk();
  const gateway = await lab.demo();
  const admin = await lab.desk(gateway);
  await admin.at("target-playground").waitFor();
  await walk.at(admin, "targets");
  await admin.at("gateway-key").locator("summary").click();
  await admin.at("own-key").waitFor();
  await walk.at(admin, "the gateway's own keys");
  await admin.quickConnect("not a host at all");
  await walk.at(admin, "quick connect with an error");
  await admin.at("target-add").click();
  await admin.at("target-form").waitFor();
  await walk.at(admin, "target form");
  await admin.at("target-auth").selectOption("private_key");
  await admin.at("target-save").click();
  await walk.at(admin, "target form with errors");
  await admin.at("target-auth").selectOption("password");
  await admin.at("target-name").fill("shop-db");
  await admin.at("target-host").fill("127.0.0.1");
  await admin.at("target-port").fill("1");
  await admin.at("target-username").fill("deploy");
  await admin.at("target-password").fill("a password");
  await admin.at("target-tags").fill("prod db");
  await admin.at("target-save").click();
  await admin.at("target-shop-db").waitFor();
  await walk.at(admin, "targets with one of production");
  await admin.at("change-shop-db").click();
  await admin.at("target-replace").waitFor();
  await walk.at(admin, "target form of one that is there");
  await admin.at("target-remove").click();
  await admin.at("typed-confirm").waitFor();
  await walk.at(admin, "target to be removed");
  await admin.at("confirm-no").click();
  await admin.at("target-shop-db").click();
  await admin.at("typed-confirm").waitFor();
  await walk.at(admin, "typed name of production");
  await admin.at("confirm-no").click();
  await admin.at("test-shop-db").click();
  await admin.at("trial-connect").waitFor();
  await walk.at(admin, "test of a target");
  await admin.at("trial-close").click();

  await admin.at("nav-people").click();
  await admin.at("person-add").click();
  await admin.at("person-form").waitFor();
  await walk.at(admin, "person form");
  await admin.at("person-save").click();
  await walk.at(admin, "person form with errors");
  await admin.at("person-name").fill("ada");
  await admin.at("grant").fill("playground");
  await admin.at("grant-add").click();
  await admin.at("person-invites").check();
  await walk.at(admin, "person form with a grant");
  await admin.at("person-save").click();
  await admin.at("link").waitFor();
  await walk.at(admin, "link shown once");
  await admin.at("link-done").click();
  await admin.at("person-row").waitFor();
  await walk.at(admin, "people");
  await admin.at("person-change").click();
  await walk.at(admin, "person to be changed");
  await admin.page.keyboard.press("Escape");
  await admin.at("person-password").click();
  await admin.page.locator("dialog").waitFor();
  await walk.at(admin, "new password for a person");
  await admin.page.keyboard.press("Escape");
  await admin.at("person-disable").click();
  await walk.at(admin, "person to be disabled");
  await admin.at("confirm-no").click();

  await admin.at("nav-audit").click();
  await admin.at("audit-row").first().waitFor();
  await walk.at(admin, "audit");
  await admin.at("audit-actor").fill("nobody of this name");
  await admin.at("audit-row").first().waitFor({ state: "detached" });
  await walk.at(admin, "audit without an entry");
  await admin.page.goto(`${gateway.origin}/api/docs`);
  await walk.at(admin, "documentation of the API");
  walk.isFree();
});

promise("no barrier for a user who works in a terminal", async (lab) => {
  const walk = new Walk();
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await desk.at("nav-sessions").click();
  await walk.at(desk, "no session");
  await desk.at("nav-new").click();
  const id = await desk.openPlayground();
  await desk.ask("colours", /struck\n/);
  await walk.at(desk, "terminal");
  await desk.page.keyboard.press("Control+Shift+KeyF");
  await desk.at("search-input").fill("struck");
  await walk.at(desk, "search in a terminal");
  await desk.page.keyboard.press("Escape");
  await desk.type("raw");
  await desk.page.keyboard.press("Escape");
  await desk.page.keyboard.insertText("]0;a title");
  await desk.page.keyboard.press("Control+g");
  await desk.at(`tab-${id}`).locator("em").waitFor();
  await walk.at(desk, "a terminal with a title");
  await desk.page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", "one\ntwo\n");
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  });
  await desk.at("lines-question").waitFor();
  await walk.at(desk, "lines to be pasted");
  await desk.at("confirm-no").click();

  const grace = await signedIn(lab, gateway, "grace", "operator");
  await grace.at("nav-sessions").click();
  await walk.at(grace, "sessions of an operator");
  await grace.row(id).getByTestId("session-watch").click();
  await grace.at("control-ask").waitFor();
  await walk.at(grace, "somebody else's terminal");
  await grace.at("control-ask").click();
  await desk.at("control-request").waitFor();
  await walk.at(desk, "a wish to type");
  await walk.at(grace, "a wish to type that waits");
  await desk.at("control-allow").click();
  await grace.at("control-return").waitFor();
  await walk.at(grace, "a terminal that is lent");
  await walk.at(desk, "a terminal that is lent, at its owner's");

  const second = new Desk(await desk.page.context().newPage());
  await second.page.goto(`${gateway.origin}/#/s/${id}`);
  await second.stands("active");
  await desk.page.bringToFront();
  await desk.at("take-back").waitFor();
  await walk.at(desk, "a terminal that another page took over");
  await second.page.bringToFront();
  await second.at("nav-sessions").click();
  await second.row(id).getByTestId("session-end").click();
  await walk.at(second, "session to be ended");
  await second.at("confirm-yes").click();
  await second.page.locator(`[data-testid=session-row][data-status=closed]`).waitFor();
  await second.row(id).hover();
  await walk.at(second, "sessions");
  await second.row(id).getByTestId("session-why").click();
  await second.at("why").waitFor();
  await second.at("why").locator("dl").first().waitFor();
  await walk.at(second, "why a session ended");
  await second.page.keyboard.press("Escape");
  await second.row(id).getByTestId("session-replay").click();
  await second.page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await walk.at(second, "replay");
  await desk.page.bringToFront();
  await desk.ending();
  await walk.at(desk, "a session that has ended");
  await desk.page.goto(`${gateway.origin}/#/s/00000000000000000000000000`);
  await desk.page.getByRole("heading", { name: "Nothing to show here" }).waitFor();
  await walk.at(desk, "no such session");
  walk.isFree();
});

promise("no barrier for a user whose session closes soon", async (lab) => {
  const walk = new Walk();
  // The warning comes after half of the time.
  const desk = await lab.desk(await lab.demo({ "session.idle_timeout": "16s" }));
  await desk.openPlayground();
  await desk.at("idle-warning").waitFor();
  await walk.at(desk, "terminal that closes soon");
  await desk.at("stay").click();
  await desk.at("idle-warning").waitFor({ state: "detached" });
  walk.isFree();
});

promise("no barrier for a user who is asked about a host", async (lab) => {
  const walk = new Walk();
  const sshd = await lab.sshd({ login: "key" });
  const knownHosts = join(lab.folder(), "known_hosts");
  writeFileSync(knownHosts, "");
  const gateway = await lab.serve(`
ssh: { known_hosts: ${knownHosts} }
targets_adhoc: true
targets_allow: [127.0.0.0/8]
targets:
  - { name: build-box, host: 127.0.0.1, port: ${sshd.port}, username: ${sshd.user}, auth: { key_file: ${sshd.userKey} } }
`);
  const grace = await signedIn(lab, gateway, "grace", "operator");
  await grace.at("target-build-box").click();
  await grace.at("prompt-yes").waitFor();
  await walk.at(grace, "an unknown host key");
  await grace.at("prompt-no").click();
  await grace.ending();
  await walk.at(grace, "a host key that was not trusted");
  await grace.at("reconnect").click();
  await grace.trustHostKey();
  await grace.stands("active");
  sshd.renewHostKey();
  await grace.at("nav-new").click();
  await grace.at("target-build-box").click();
  await grace.ending();
  await walk.at(grace, "a changed host key");
  await grace.at("closed-review").click();
  await grace.at("waiting-key").waitFor();
  await walk.at(grace, "host keys");
  await grace.at("waiting-accept").click();
  await grace.at("typed-confirm").waitFor();
  await walk.at(grace, "a host key to be accepted");
  walk.isFree();
});

promise("no barrier for an operator, an auditor, a user or a viewer, or for a user who is asked for a password", async (lab) => {
  const walk = new Walk();
  const gateway = await lab.demo();
  for (const role of ["operator", "auditor", "user", "viewer"]) {
    const desk = await signedIn(lab, gateway, `one-${role}`, role, []);
    await walk.at(desk, `first page of the ${role}`);
    for (const view of ["sessions", "people", "account", "audit", "host-keys"]) {
      await desk.page.goto(`${gateway.origin}/#/${view}`);
      await desk.page.locator("h1").first().waitFor();
      await walk.at(desk, `${view} of the ${role}`);
    }
  }
  walk.isFree();
});

promise("no barrier for a user who must type what a host asks for", async (lab) => {
  const walk = new Walk();
  const [asks, questions] = [await lab.sshd({ login: "password" }), await lab.sshd({ login: "keyboard_interactive" })];
  const gateway = await lab.serve("targets_adhoc: true\ntargets_allow: [127.0.0.0/8]\n");
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signIn(gateway.token);
  await desk.quickConnect(asks.destination);
  await desk.trustHostKey();
  await desk.answer("password", () => walk.at(desk, "a password of the host"));
  await desk.at("prompt-field-0").fill("wrong");
  await desk.at("prompt-submit").click();
  await desk.answer("password", () => walk.at(desk, "a password of the host, once more"));
  await desk.at("prompt-cancel").click();
  await desk.at("nav-new").click();
  await desk.quickConnect(questions.destination);
  await desk.trustHostKey();
  await desk.answer("keyboard_interactive", () => walk.at(desk, "a question of the host"));
  walk.isFree();
});

promise("no barrier for a user with a phone", async (lab) => {
  const walk = new Walk();
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await desk.page.setViewportSize(PHONE);
  await desk.at("target-playground").waitFor();
  await walk.at(desk, "targets on a phone");
  const words = ["Targets", "Sessions", "Host keys", "People", "Audit", "Account", "Sign out"];
  for (const word of words) await desk.page.locator("header").getByText(word, { exact: true }).and(desk.page.locator(":visible")).waitFor();
  const id = await desk.openPlayground();
  await desk.ask("echo here", /^here$/m);
  await walk.at(desk, "terminal on a phone");
  await desk.at("tab-find").click();
  await desk.at("search-input").waitFor();
  await walk.at(desk, "search in a terminal on a phone");
  await desk.page.keyboard.press("Escape");
  const links = { Sessions: "sessions", "Host keys": "host-keys", People: "people", Audit: "audit", "Account of admin": "account" };
  for (const [name, view] of Object.entries(links)) {
    await desk.page.getByRole("link", { name, exact: true }).click();
    await until(`the address of ${name}`, () => desk.page.url().endsWith(`#/${view}`));
    await desk.page.locator("h1").first().waitFor();
    await walk.at(desk, `${view} on a phone`);
  }
  await desk.at(`tab-${id}`).click();
  await desk.type("exit");
  await desk.ending();
  await walk.at(desk, "a session that has ended, on a phone");
  await desk.page.goto(`${gateway.origin}/#/r/${id}`);
  await desk.page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await walk.at(desk, "replay on a phone");
  walk.isFree();
});

/** Returns the code that an authenticator app shows now for a secret in base 32 (RFC 6238). */
function code(secret) {
  const bits = [...secret].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const hash = createHmac("sha1", key).update(step).digest();
  return String((hash.readUInt32BE(hash[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
