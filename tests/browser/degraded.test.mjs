// Tests what the list says of what is away, a store or another gateway, and shows all the same; and of an end that failed.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";

/** A port on which nothing listens, that of an obsolete service (tcpmux, RFC 1078). */
const NOBODY = "redis://127.0.0.1:1";

promise("a list that may miss something names the store that is away", async (lab) => {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serveBox(sshd, { config: `store: { live: "${NOBODY}" }` });
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signIn(gateway.token);
  await desk.at("target-build-box").click();
  await desk.stands("active");
  const id = await desk.sessionId();
  await desk.at("nav-sessions").click();
  await desk.row(id).waitFor();
  const notice = desk.at("degraded");
  await notice.waitFor();
  assert.match(await notice.textContent(), /Behind or not reachable right now: live\. .* be incomplete/);
  assert.equal(await notice.getAttribute("role"), "status");
});

promise("a list that misses nothing names no store", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const id = await desk.openPlayground();
  await desk.at("nav-sessions").click();
  await desk.row(id).waitFor();
  assert.equal(await desk.at("degraded").count(), 0);
});

promise("a list names the gateway that does not answer, and the command for it, until it answers", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await desk.at("target-playground").waitFor();
  let standing = "lost";
  await desk.page.route("**/api/v1/nodes", async (route) => {
    const { nodes } = await gateway.get("/nodes");
    await route.fulfill({ json: { nodes: [...nodes, { id: "gw-2", own: false, standing }] } });
  });
  await desk.at("nav-sessions").click();
  const notice = desk.at("lost-nodes");
  await notice.waitFor();
  assert.match(await notice.innerText(), /^No answer from gw-2: .* until it answers\. .* run pulsegate node confirm-dead gw-2\.$/);
  await desk.isAccessible();
  standing = "serving";
  // The list alone is fetched every second; other gateways are looked at as often only while one is lost.
  await notice.waitFor({ state: "detached", timeout: 5_000 });
});

promise("an end that failed is told of its session, until it is dismissed or the session is closed", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  const detail = "The gateway has not confirmed its end.";
  await desk.page.route(`**/api/v1/sessions/${id}`, (route) => route.fulfill({ status: 503, json: { title: "Not confirmed", detail } }));
  await desk.at("nav-sessions").click();
  const problem = desk.at("end-problem");
  const end = async () => {
    await desk.row(id).getByTestId("session-end").click();
    await desk.at("confirm-yes").click();
    await problem.waitFor();
  };
  await end();
  assert.match(await problem.innerText(), /^The session of \S+ on playground, started .*: The gateway has not confirmed its end\./);
  await desk.isAccessible();
  await desk.at("end-problem-dismiss").click();
  await problem.waitFor({ state: "detached" });

  await end();
  const headers = { authorization: `Bearer ${gateway.token}` };
  await fetch(`${gateway.origin}/api/v1/sessions/${id}`, { method: "DELETE", headers });
  await gateway.listed(id, "closed");
  await problem.waitFor({ state: "detached" });
});
