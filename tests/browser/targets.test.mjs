// Owns how a person finds a target: search, tags, favourites, a pasted line for ssh, and the second thought before prod.
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
});

promise("a pasted line for ssh leads there, and one with a jump host says what to do instead", async (lab) => {
  const gateway = await lab.serve(CONFIG);
  const desk = await signedIn(lab, gateway);
  await desk.quickConnect("ssh -p 2201 -J bastion deploy@db1");
  assert.match(await desk.at("quick-problem").innerText(), /^Jump hosts \(-J\) are not built\..*leave -J out\.$/);
  await desk.quickConnect("ssh -p 6 deploy@127.0.0.1");
  await until("its session", async () => (await gateway.sessions())[0]?.target === "deploy@127.0.0.1:6");
});

/** The targets shown, in order. */
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
