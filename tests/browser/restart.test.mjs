// Tests what a user sees of a gateway that dies and comes back.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("a gateway killed with -9 leaves a notice in the page, and its next start says what became of the shell", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.ask("echo before", /^before$/m);

  await gateway.kill();
  await desk.stands("reconnecting");
  assert.match(await desk.at("pill").innerText(), /^reconnecting/);
  assert.match(await desk.screen(), /^before$/m);

  await gateway.start();
  const session = await gateway.listed(id, "closed");
  assert.equal(session.end_reason, "node_lost");
  // The user is still signed in.
  assert.match(await desk.ending(), /The gateway that ran this session stopped/);

  await desk.at("reconnect").click();
  await desk.stands("active");
  await until("a new session", async () => (await desk.sessionId()) !== id);
  await desk.ask("echo after", /^after$/m);
});
