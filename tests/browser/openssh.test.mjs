// Tests connecting to a real OpenSSH server as a user does: its host key, and each way to sign in.
import assert from "node:assert/strict";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** What `stty size` prints: rows and columns. */
const SIZE = /^(\d+) (\d+)$/m;

promise("quick connect asks about a new host key, then for the password, and opens a shell", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const desk = await lab.desk(await lab.demo());
  await desk.quickConnect(sshd.destination);
  assert.ok((await desk.trustHostKey()).includes(sshd.fingerprint));
  await desk.fillPrompt("password", sshd.password);
  await desk.stands("active");
  await desk.ask("echo $((6*7))", /^42$/m);
});

promise("a real shell follows the window's size, is there again after a reload, and ends once its tab was closed for long", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const gateway = await lab.demo({ "session.reattach_window": "3s" });
  const desk = await lab.desk(gateway);
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.fillPrompt("password", sshd.password);
  await desk.stands("active");
  const id = await desk.sessionId();
  await desk.ask("stty size", SIZE);
  await desk.page.setViewportSize({ width: 800, height: 500 });
  await until("a smaller terminal there, too", async () => {
    await desk.type("stty size");
    const told = [...(await desk.screen()).matchAll(new RegExp(SIZE, "gm"))];
    const [[, rows, cols], [, fewer, narrower]] = [told[0], told.at(-1)];
    return Number(fewer) < Number(rows) && Number(narrower) < Number(cols);
  });
  await desk.ask("echo $((6*7))", /^42$/m);
  // The prompt may come after the answer.
  await desk.reads(/\$\s*$/);
  await desk.reload();
  await desk.ask("echo again", /^again$/m);
  await desk.page.close();
  assert.equal((await gateway.listed(id, "closed")).end_reason, "detach_expired");
});

promise("output that came while the network was away and is no longer kept is said to be missing", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  const folder = lab.folder();
  chmodSync(folder, 0o777);
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.fillPrompt("password", sshd.password);
  await desk.ask("echo $((6*7))", /^42$/m);
  // It goes on once the network is away; another file says that all of it was written.
  await desk.type(`cd ${folder}; while [ ! -e away ]; do sleep 0.1; done; seq 1 150000; echo all; touch done`);
  await line.cut();
  await desk.stands("reconnecting");
  writeFileSync(join(folder, "away"), "");
  await until("all of it", () => existsSync(join(folder, "done")));
  await line.mend();
  await desk.stands("active");
  assert.match(await desk.at("skipped").innerText(), /of output came while this page was away and is no longer kept/);
  await desk.reads(/^149999\n150000\nall$/m);
});

promise("a host key that is not trusted ends the attempt before anything is sent", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const desk = await lab.desk(await lab.demo());
  await desk.quickConnect(sshd.destination);
  await desk.answer("host_key", () => desk.at("prompt-no").click());
  assert.match(await desk.ending(), /host key is not trusted, so nothing was sent/);
});

promise("a changed host key is refused, and both fingerprints are shown", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const desk = await lab.desk(await lab.demo());
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.fillPrompt("password", sshd.password);
  await desk.stands("active");
  const known = sshd.fingerprint;
  sshd.renewHostKey();

  await desk.at("nav-new").click();
  await desk.quickConnect(sshd.destination);
  const ending = await desk.ending();
  assert.ok(ending.includes(known) && ending.includes(sshd.fingerprint), ending);
  assert.equal(await desk.at("prompt").count(), 0);
});

promise("a wrong password is refused with a sentence, and may be tried again", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const desk = await lab.desk(await lab.demo());
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.fillPrompt("password", "wrong");
  assert.match(await desk.fillPrompt("password", sshd.password), /not accepted/);
  await desk.ask("echo $((6*7))", /^42$/m);
});

promise("a password half typed as the connection breaks stays in its question, and reaches no shell", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  const { keyboard } = desk.page;
  const field = desk.at("prompt-field-0");
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  const [half, rest] = [sshd.password.slice(0, 4), sshd.password.slice(4)];
  await desk.answer("password", () => keyboard.type(half));
  assert.equal(await field.inputValue(), half);

  await line.cut();
  await desk.at("prompt-away").waitFor();
  await keyboard.type(rest);
  await keyboard.press("Enter");
  assert.equal((await desk.focus()).id, "prompt-field-0");
  await desk.isAccessible();
  await line.mend();
  await desk.at("prompt-away").waitFor({ state: "detached" });
  assert.equal(await field.inputValue(), sshd.password);
  await keyboard.press("Enter");
  await desk.stands("active");
  await desk.ask("echo $((6*7))", /^42$/m);
  assert.ok(!(await desk.screen()).includes(rest));
});

promise("questions of the target are asked in the terminal", async (lab) => {
  const sshd = await lab.sshd({ login: "keyboard_interactive" });
  const desk = await lab.desk(await lab.demo());
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  assert.match(await desk.fillPrompt("keyboard_interactive", sshd.password), /Password/);
  await desk.ask("echo $((6*7))", /^42$/m);
});

promise("a target of the catalogue with a key opens a shell without a question", async (lab) => {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serveBox(sshd);
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signIn(gateway.token);
  await desk.at("target-build-box").click();
  await desk.stands("active");
  await desk.ask("echo $((6*7))", /^42$/m);
});
