// Owns the newcomer's first minute: from the printed link to a shell that survives a reload and ends when it is left.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";

promise("the printed link leads to a shell that resizes, survives a reload and ends when its tab is closed", async (lab) => {
  const gateway = await lab.demo({ "session.reattach_window": "3s" });
  const desk = await lab.desk(gateway);
  const [cookie] = await desk.page.context().cookies();
  assert.deepEqual([cookie.sameSite, cookie.httpOnly], ["Strict", true]);

  const id = await desk.openPlayground();
  await desk.ask("echo hello", /^hello$/m);

  const [, cols, rows] = (await desk.ask("size", /size\n(\d+)×(\d+)$/m)).map(Number);
  await desk.page.setViewportSize({ width: 800, height: 500 });
  const [, fewerCols, fewerRows] = (await desk.ask("size", /size\n\d+×\d+\n.*size\n(\d+)×(\d+)$/ms)).map(Number);
  assert.ok(fewerCols < cols && fewerRows < rows, `${fewerCols}×${fewerRows} after ${cols}×${rows}`);

  const screen = await desk.screen();
  await desk.page.reload();
  await desk.stands("active");
  assert.equal(await desk.sessionId(), id);
  await desk.reads(/size\n.*size\n/s);
  assert.equal(await desk.screen(), screen);
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
