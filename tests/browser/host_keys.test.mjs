// Tests reviewing host keys in the browser: a changed key stops everybody until an operator has accepted it.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";

const PASSWORD = "correct horse battery";

async function signedIn(lab, gateway, name, role) {
  await gateway.change("POST", "/users", { name, role, grants: ["*"], password: PASSWORD });
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signInAs(name, PASSWORD);
  return desk;
}

promise("a changed host key is a full stop until an operator accepts it", async (lab) => {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serveBox(sshd);
  const [ada, grace] = [await signedIn(lab, gateway, "ada", "user"), await signedIn(lab, gateway, "grace", "operator")];
  await ada.at("target-build-box").click();
  await ada.stands("active");
  const known = sshd.fingerprint;
  sshd.renewHostKey();

  await ada.at("nav-new").click();
  await ada.at("target-build-box").click();
  const ending = await ada.ending();
  assert.ok(ending.includes(known) && ending.includes(sshd.fingerprint), ending);
  assert.equal(await ada.mainButton(), "reconnect");
  for (const hidden of ["closed-review", "nav-host-keys"]) assert.equal(await ada.at(hidden).count(), 0, hidden);

  await grace.at("target-build-box").click();
  await grace.ending();
  assert.equal(await grace.mainButton(), "closed-review", "to reconnect can only fail");
  await grace.at("closed-review").click();
  await grace.at("waiting-key").waitFor();
  const meaning = await grace.at("waiting-meaning").innerText();
  assert.match(meaning, /another key than the one trusted so far.*ssh-keygen -lf \/etc\/ssh\/ssh_host_\w+_key\.pub .*trust it.*dismiss it/);
  assert.equal(await grace.at("old-fingerprint").innerText(), known);
  assert.equal(await grace.at("new-fingerprint").innerText(), sshd.fingerprint);
  await grace.isAccessible();
  await grace.at("waiting-accept").click();
  assert.ok(await grace.at("confirm-yes").isDisabled());
  await grace.isAccessible();
  await grace.at("typed-name").fill(`127.0.0.1:${sshd.port}`);
  await grace.at("confirm-yes").click();
  await grace.at("nothing-waits").waitFor();
  const row = grace.at("known-row");
  assert.ok((await row.innerText()).includes("by grace"), await row.innerText());

  await ada.at("reconnect").click();
  await ada.stands("active");
  await ada.ask("echo $((6*7))", /^42$/m);
});

promise("a key that stands twice in the file is shown twice beside the one that came in its place", async (lab) => {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serveBox(sshd, { lines: 2 });
  const grace = await signedIn(lab, gateway, "grace", "operator");
  const known = sshd.fingerprint;
  sshd.renewHostKey();
  await grace.at("target-build-box").click();
  await grace.ending();
  await grace.at("closed-review").click();
  await grace.at("waiting-key").waitFor();
  assert.deepEqual(await grace.at("old-fingerprint").allInnerTexts(), [known, known]);
});

promise("an unknown key of the catalogue waits for an operator, who may dismiss it", async (lab) => {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serveBox(sshd);
  const [ada, grace] = [await signedIn(lab, gateway, "ada", "user"), await signedIn(lab, gateway, "grace", "operator")];
  await grace.at("nav-host-keys").click();
  await grace.at("known-forget").click();
  await grace.at("confirm-yes").click();
  await grace.at("known-row").waitFor({ state: "detached" });

  await ada.at("target-build-box").click();
  assert.match(await ada.ending(), /operator accepts it under Host keys/);
  assert.equal(await ada.at("prompt").count(), 0);
  assert.match(await grace.at("waiting-meaning").innerText(), /^No key of this host is trusted yet/);
  await grace.at("waiting-dismiss").click();
  await grace.at("nothing-waits").waitFor();

  await ada.at("reconnect").click();
  await ada.ending();
  await grace.at("waiting-accept").click();
  await grace.at("confirm-yes").click();
  await grace.at("nothing-waits").waitFor();
  await ada.at("reconnect").click();
  await ada.stands("active");
});
