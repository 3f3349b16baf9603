// Tests a newcomer's first minute: from the printed link to a shell that survives a reload and ends when it is left.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("the printed link leads to a shell that resizes, survives a reload and ends when its tab is closed", async (lab) => {
  const gateway = await lab.demo({ "session.reattach_window": "3s" });
  const desk = await lab.desk(gateway);
  const [cookie] = await desk.page.context().cookies();
  assert.deepEqual([cookie.sameSite, cookie.httpOnly], ["Strict", true]);

  const id = await desk.openPlayground();
  await desk.ask("echo hello", /^hello$/m);

  const [cols, rows] = await size(desk);
  await desk.page.setViewportSize({ width: 800, height: 500 });
  await until("the shell to hear of the smaller window", async () => {
    const [fewerCols, fewerRows] = await size(desk);
    return fewerCols < cols && fewerRows < rows;
  });

  await desk.reload();
  await desk.ask("echo again", /^again$/m);

  await desk.page.close();
  const session = await gateway.listed(id, "closed");
  assert.equal(session.end_reason, "detach_expired");
});

promise("a link signs in once, and says so the second time", async (lab) => {
  const gateway = await lab.demo();
  await lab.desk(gateway);
  const other = await (await lab.browser()).open(gateway.link);
  await other.getByTestId("link-expired").waitFor();
});

/** Returns the playground's columns and rows. */
async function size(desk) {
  const answers = async () => [...(await desk.screen()).matchAll(/^(\d+)×(\d+)$/gm)];
  const known = (await answers()).length;
  await desk.type("size");
  const all = await until("an answer to `size`", async () => (await answers())[known] && answers());
  return all.at(-1).slice(1).map(Number);
}
