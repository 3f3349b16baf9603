// Tests managing users in the browser: one is added, signs in, opens a granted target, and loses the grant again.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";

/** The row of a user in the list of people. */
function row(desk, name) {
  return desk.page.locator(`[data-testid=person-row][data-name="${name}"]`);
}

async function addAda(desk) {
  await desk.at("nav-people").click();
  await desk.at("person-add").click();
  await desk.at("person-name").fill("ada");
  await desk.at("person-role").selectOption("user");
  await desk.at("new-password").fill(PASSWORD);
  await desk.at("grant").fill("playground");
  await desk.at("grant-add").click();
  await desk.at("person-save").click();
  await row(desk, "ada").waitFor();
}

async function signedIn(lab, gateway, name, password) {
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signInAs(name, password);
  return desk;
}

promise("a user who was added signs in, sees only their own, and loses the shell with the right to it", async (lab) => {
  const gateway = await lab.demo();
  const admin = await lab.desk(gateway);
  await addAda(admin);

  const wrong = await signedIn(lab, gateway, "ada", "wrong horse battery");
  await until("the refusal", async () => (await wrong.at("signin-problem").innerText()) !== "");
  const ada = await signedIn(lab, gateway, "ada", PASSWORD);
  const id = await ada.openPlayground();
  await ada.ask("echo mine", /^mine$/m);
  for (const hidden of ["nav-people", "nav-audit"]) assert.equal(await ada.at(hidden).count(), 0, hidden);

  await admin.at("nav-sessions").click();
  await admin.row(id).waitFor();
  await admin.at("nav-people").click();
  await row(admin, "ada").getByTestId("person-disable").click();
  await admin.at("confirm-yes").click();
  assert.match(await ada.at("signin-refusal").innerText(), /ada was disabled/);
  assert.equal((await gateway.get(`/sessions/${id}`)).end_reason, "revoked");
  await ada.page.reload();
  await ada.at("signin-submit").waitFor();

  await admin.at("nav-audit").click();
  const told = admin.page.locator("[data-testid=audit-row]");
  await told.first().waitFor();
  const text = await admin.page.locator("table").innerText();
  for (const word of ["user.create", "user.change", "sign_in", "anonymous"]) assert.ok(text.includes(word), `${word}: ${text}`);
});

promise("a grant that a user has twice is shown, and taken away with one click", async (lab) => {
  const gateway = await lab.demo();
  const admin = await lab.desk(gateway);
  await gateway.change("POST", "/users", { name: "ada", role: "user", grants: ["web-1", "*"], password: PASSWORD });
  // A record may be from before grants were kept once.
  await admin.page.route("**/api/v1/users", async (route) => {
    const { items } = await gateway.get("/users");
    await route.fulfill({ json: { items: items.map((user) => ({ ...user, grants: ["web-1", "*", "web-1"] })) } });
  });
  await admin.at("nav-people").click();
  await row(admin, "ada").waitFor();
  assert.deepEqual(await row(admin, "ada").locator(".tag").allInnerTexts(), ["web-1", "*", "web-1"]);
  await row(admin, "ada").getByTestId("person-change").click();
  await admin.page.getByRole("button", { name: "Remove web-1" }).first().click();
  await admin.at("person-save").click();
  await admin.at("person-form").waitFor({ state: "detached" });
  assert.deepEqual((await gateway.get("/users")).items[0].grants, ["*"]);
});

promise("a token that has a scope twice is shown", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const made = await gateway.change("POST", "/tokens", { name: "ci", scopes: ["open"] });
  // A record may be from before scopes were kept once.
  await desk.page.route("**/api/v1/tokens", (route) => route.fulfill({ json: { items: [{ ...made, scopes: ["open", "open"] }] } }));
  await desk.at("nav-account").click();
  await desk.at("token-row").waitFor();
  assert.deepEqual(await desk.at("token-row").locator(".tag").allInnerTexts(), ["open", "open"]);
});

promise("a person whose link could not be made is added once, and has it at the next try", async (lab) => {
  const gateway = await lab.demo();
  const admin = await lab.desk(gateway);
  await admin.at("nav-people").click();
  await admin.at("person-add").click();
  await admin.at("person-name").fill("ada");
  await admin.at("person-invites").check();
  await admin.page.route("**/users/ada/link", (route) => route.abort(), { times: 1 });
  await admin.at("person-save").click();
  await admin.at("person-link-again").waitFor();
  await admin.isAccessible();
  await admin.page.keyboard.press("Enter");
  assert.match(await admin.at("link").inputValue(), /#\/setup\//);
  await admin.at("link-done").click();
  await row(admin, "ada").waitFor();
});

promise("a change that failed stays said as long as it is undone, whatever the list does", async (lab) => {
  const gateway = await lab.demo();
  const admin = await lab.desk(gateway);
  await addAda(admin);
  await admin.page.route("**/api/v1/users/ada", (route) => route.abort(), { times: 1 });
  const listed = admin.page.waitForResponse("**/api/v1/users");
  await row(admin, "ada").getByTestId("person-disable").click();
  await admin.at("confirm-yes").click();
  await listed;
  const told = admin.at("change-problem");
  assert.match(await told.innerText(), /does not answer/);
  // Not a "Try again" that would only fetch the list.
  assert.equal(await told.getByRole("button").count(), 0);
  await admin.isAccessible();
  await row(admin, "ada").getByTestId("person-disable").click();
  await admin.at("confirm-yes").click();
  await until("ada to be disabled", async () => (await row(admin, "ada").getAttribute("data-disabled")) === "true");
  assert.equal(await told.count(), 0);
});

promise("a password is changed by its owner, and the other browser is signed out", async (lab) => {
  const gateway = await lab.demo();
  await addAda(await lab.desk(gateway));
  const [here, there] = [await signedIn(lab, gateway, "ada", PASSWORD), await signedIn(lab, gateway, "ada", PASSWORD)];
  await there.openPlayground();
  await here.at("nav-account").click();
  await here.at("current-password").fill(PASSWORD);
  await here.at("new-password").fill("another horse battery");
  let changes = 0;
  here.page.on("request", (request) => (changes += Number(request.url().endsWith("/me/password"))));
  await here.at("password-save").dblclick();
  await here.page.getByText("Changed. Your other devices are signed out.").waitFor();
  assert.equal(changes, 1);
  assert.match(await there.at("signin-refusal").innerText(), /ada signed out|password of ada was changed/);
  await here.page.reload();
  await here.at("nav-account").waitFor();
});

promise("a list that is fetched anew tells how long ago as of then", async (lab) => {
  const gateway = await lab.demo();
  await gateway.change("POST", "/users", { name: "root", role: "admin", grants: [], password: PASSWORD });
  const root = await signedIn(lab, gateway, "root", PASSWORD);
  await root.at("nav-account").click();
  const add = async (name) => {
    await root.at("token-add").click();
    await root.at("token-name").fill(name);
    await root.at("token-all").check();
    await root.at("token-save").click();
    await root.at("token-done").click();
  };
  await add("early");
  const early = root.page.locator("[data-testid=token-row][data-name=early]");
  await early.waitFor();
  await root.page.clock.setFixedTime(Date.now() + 2 * 3_600_000);
  await add("late");
  await until("the token of two hours ago", async () => /made 2 h ago/.test(await early.innerText()));

  await root.page.clock.setFixedTime(Date.now());
  await root.at("nav-people").click();
  await row(root, "root").waitFor();
  await root.page.clock.setFixedTime(Date.now() + 3 * 3_600_000);
  await row(root, "root").getByTestId("person-change").click();
  await root.at("person-save").click();
  await until("the sign-in of three hours ago", async () => /3 h ago/.test(await row(root, "root").innerText()));
});

promise("a user whose role has changed has its views as soon as the page is looked at", async (lab) => {
  const gateway = await lab.demo();
  await gateway.change("POST", "/users", { name: "ada", role: "user", grants: ["playground"], password: PASSWORD });
  const desk = await signedIn(lab, gateway, "ada", PASSWORD);
  const id = await desk.openPlayground();
  assert.equal(await desk.at("nav-host-keys").count(), 0);
  await gateway.change("PATCH", "/users/ada", { role: "operator" });
  await until("the view of the new role", async () => {
    // As when its tab comes to the front.
    await desk.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    return (await desk.at("nav-host-keys").count()) === 1;
  });
  assert.equal(await desk.sessionId(), id);
  await desk.ask("echo still", /^still$/m);
});

promise("a user who signs out in one tab is signed out in all, and the next user finds nothing of theirs", async (lab) => {
  const gateway = await lab.demo();
  for (const name of ["ada", "bob"]) {
    await gateway.change("POST", "/users", { name, role: "user", grants: ["playground"], password: PASSWORD });
  }
  const desk = await signedIn(lab, gateway, "ada", PASSWORD);
  await desk.openPlayground();
  const other = new Desk(await desk.page.context().newPage());
  await other.page.goto(gateway.origin);
  await other.at("sign-out").click();
  await desk.at("signin-name").waitFor();

  await desk.page.bringToFront();
  await desk.signInAs("bob", PASSWORD);
  for (const come of [() => {}, () => desk.page.reload()]) {
    await come();
    await desk.at("target-playground").waitFor();
    assert.equal(await desk.at("tab-close").count(), 0);
  }
});
