// Tests finding a target: search, tags, favourites, a pasted ssh line, and the confirmation before a production target.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { Desk } from "./support/desk.mjs";
import { until } from "./support/until.mjs";

const CONFIG = `
targets_adhoc: true
targets_allow: [127.0.0.0/8]
targets:
  - { name: db-1, host: 127.0.0.1, port: 1, username: deploy, tags: [prod, db] }
  - { name: web-1, host: 127.0.0.1, port: 2, username: deploy, tags: [prod] }
  - { name: lab-1, host: 127.0.0.1, port: 3, username: ann, tags: [test] }
  - { name: lab-2, host: 127.0.0.1, port: 4, username: ann, tags: [test, db] }
  - { name: lab-3, host: 127.0.0.1, port: 5, username: ann, tags: [test] }
`;

promise("a target is found by words and tags, and a favourite stays in front over a reload", async (lab) => {
  const desk = await signedIn(lab, await lab.serve(CONFIG));
  assert.deepEqual(await names(desk), ["db-1", "web-1", "lab-1", "lab-2", "lab-3"]);

  await desk.at("favourite-lab-3").click();
  await desk.page.reload();
  await desk.at("favourite-lab-3").waitFor();
  assert.equal((await names(desk))[0], "lab-3");
  assert.equal(await desk.at("favourite-lab-3").getAttribute("aria-pressed"), "true");

  await desk.at("tag-db").click();
  assert.deepEqual(await names(desk), ["db-1", "lab-2"]);
  await desk.at("target-search").fill("ANN 4");
  assert.deepEqual(await names(desk), ["lab-2"]);
  await desk.at("target-search").fill("nothing like it");
  await desk.at("target-clear").click();
  assert.equal((await names(desk)).length, 5);

  await desk.at("target-search").fill("lab-2");
  await desk.page.keyboard.press("Enter");
  await desk.ending();
  assert.match(await desk.page.title(), /^lab-2/);
});

promise("a prod target opens only by its typed name, and says so over its terminal", async (lab) => {
  const gateway = await lab.serve(CONFIG);
  const desk = await signedIn(lab, gateway);
  await desk.at("target-db-1").click();
  assert.ok(await desk.at("confirm-yes").isDisabled());
  await desk.at("typed-name").fill("db-2");
  await desk.page.keyboard.press("Enter");
  assert.ok(await desk.at("confirm-yes").isDisabled());
  await desk.page.keyboard.press("Escape");
  await desk.at("typed-confirm").waitFor({ state: "detached" });

  // The same machine, typed by hand.
  await desk.quickConnect("ssh -p 1 root@127.0.0.1");
  await desk.at("typed-confirm").waitFor();
  await desk.at("confirm-no").click();
  assert.deepEqual(await gateway.sessions(), []);

  await desk.at("target-db-1").click();
  await desk.page.keyboard.type("db-1");
  await desk.page.keyboard.press("Enter");
  await desk.at("prod-band").waitFor();
  await until("its session", async () => (await gateway.sessions())[0]?.target === "db-1");

  // Nor does a second one in its place.
  await desk.ending();
  await desk.at("reconnect").click();
  await desk.at("typed-confirm").waitFor();
  await desk.at("confirm-no").click();
  await desk.at("typed-confirm").waitFor({ state: "detached" });
  assert.equal((await gateway.sessions()).length, 1);
  await desk.at("reconnect").click();
  await desk.at("typed-confirm").waitFor();
  await desk.page.keyboard.type("db-1");
  await desk.page.keyboard.press("Enter");
  await until("a second session", async () => (await gateway.sessions()).length === 2);
});

promise("the gateway is asked what is production before a shell is opened again or by a link", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await addShop(gateway, []);
  await desk.page.goto(`${gateway.origin}/#/open/shop`);
  await desk.reads(/^Pulsegate playground$/m);
  await desk.type("exit");
  await desk.ending();

  // Tagged since this page loaded the catalogue.
  await gateway.change("PATCH", "/targets/shop", { tags: ["prod"] });
  await desk.at("reconnect").press("Enter");
  await desk.at("typed-confirm").waitFor();
  await desk.at("prod-band").waitFor();
  await desk.page.keyboard.press("Escape");
  await desk.at("typed-confirm").waitFor({ state: "detached" });
  await until("the focus back on the button", async () => (await desk.focus()).id === "reconnect");

  // Nor is one opened while that is not known.
  await desk.page.route("**/api/v1/targets", (route) => route.abort());
  await desk.page.keyboard.press("Enter");
  await desk.at("closed-message").getByText("The gateway does not answer.").waitFor();
  await desk.page.goto(`${gateway.origin}/#/open/shop`);
  await desk.page.getByRole("heading", { name: "Nothing to show here" }).waitFor();
  assert.equal((await gateway.sessions()).length, 1);
});

promise("a page that was loaded without the catalogue marks production once the terminal is connected", async (lab) => {
  const gateway = await lab.demo();
  await addShop(gateway, ["prod"]);
  const desk = await lab.desk(gateway);
  await desk.at("target-shop").click();
  await desk.page.keyboard.type("shop");
  await desk.page.keyboard.press("Enter");
  await desk.stands("active");
  await desk.page.route("**/api/v1/targets", (route) => route.abort(), { times: 1 });
  await desk.page.reload();
  await desk.stands("active");
  await desk.at("prod-band").waitFor();
});

promise("a pasted line for ssh leads there, and over a jump host that is a target", async (lab) => {
  const gateway = await lab.serve(CONFIG);
  const desk = await signedIn(lab, gateway);
  await desk.quickConnect("ssh -p 2201 -J lab-1 deploy@db1");
  await until("its session", async () => (await gateway.sessions())[0]?.target === "deploy@db1:2201 via lab-1");
});

promise("a card shows the way to its target, and the gateway's own key can be copied where it is wanted", async (lab) => {
  const way = "  - { name: far-1, host: far.internal, username: ann, via: [lab-1, ops@10.0.0.9], auth: { gateway_key: true } }\n";
  const gateway = await lab.serve(CONFIG + way);
  const desk = await signedIn(lab, gateway);
  assert.match(await desk.at("target-far-1").innerText(), /ann@far\.internal.*via lab-1, ops@10\.0\.0\.9:22/);
  await desk.at("gateway-key").locator("summary").click();
  await desk.at("own-key").waitFor();
  assert.match(await desk.at("own-key").innerText(), /^ssh-ed25519 [A-Za-z0-9+/=]+ pulsegate$/);
  await desk.isAccessible();
});

promise("a target is tested from its card, and each step says how it went", async (lab) => {
  const gateway = await lab.serve(CONFIG);
  const desk = await signedIn(lab, gateway);
  await desk.at("test-lab-1").click();
  await desk.at("trial-connect").waitFor();
  assert.match(await desk.at("trial-resolve").innerText(), /passed/);
  assert.match(await desk.at("trial-connect").innerText(), /failed[^]*127\.0\.0\.1:3 refused the connection/);
  await desk.isAccessible();
  await desk.at("trial-close").click();
  await desk.at("trial").waitFor({ state: "detached" });
  assert.deepEqual(await gateway.sessions(), [], "no session is opened");
});

promise("a pasted line for ssh leads there, over a jump host only if that is a target", async (lab) => {
  const gateway = await lab.serve(CONFIG);
  const desk = await signedIn(lab, gateway);
  await desk.quickConnect("ssh -p 2201 -J bastion deploy@db1");
  assert.match(await desk.at("quick-problem").innerText(), /^Behind -J put the name of a target or user@host:port; bastion is neither/);
  await desk.quickConnect("ssh -p 6 deploy@127.0.0.1");
  await until("its session", async () => (await gateway.sessions())[0]?.target === "deploy@127.0.0.1:6");
});

/** Adds a target of that name to a demo, which leads to the playground. */
async function addShop(gateway, tags) {
  const [{ host, port }] = (await gateway.get("/targets")).items;
  await gateway.change("POST", "/targets", { name: "shop", host, port, username: "guest", tags, auth: { kind: "prompt" } });
}

/** Returns the names of the targets shown, in order. */
async function names(desk) {
  return desk.page.locator("li strong").allInnerTexts();
}

/** Signs in with the token of the gateway's administrator. */
async function signedIn(lab, gateway) {
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signIn(gateway.token);
  await desk.at("target-db-1").waitFor();
  return desk;
}
