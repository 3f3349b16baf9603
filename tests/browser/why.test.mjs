// Tests that the panel with the evidence behind a status says what the evidence says, and nothing without any.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";

promise("a status is said as of its evidence, and none where the gateway does not answer", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const id = await desk.openPlayground();
  await desk.at("nav-sessions").click();
  const why = desk.row(id).getByTestId("session-why");

  await desk.page.route("**/why", (route) => route.abort(), { times: 1 });
  await why.click();
  const panel = desk.at("why");
  await panel.getByText("The gateway does not answer").waitFor();
  assert.equal(await panel.locator(".status").count(), 0);
  await desk.page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });

  // The session ends between the list and the question.
  await desk.page.route("**/why", async (route) => {
    const answer = await (await route.fetch()).json();
    Object.assign(answer.session, { status: "closed", end_reason: "idle_timeout" });
    await route.fulfill({ json: answer });
  }, { times: 1 });
  await why.click();
  assert.match(await desk.at("verdict").innerText(), /closed\s+Idle\s+as of \d/);
});
