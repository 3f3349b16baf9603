// Tests one session in two pages: only one has it at a time, and both show which; also where one is a copy of the other.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";

promise("a terminal opened elsewhere says so, and can be taken back", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  const here = await lab.follow(gateway, browser);
  const id = await here.openPlayground();
  await here.ask("echo here", /^here$/m);

  const there = new Desk(await browser.open(`${gateway.origin}/#/s/${id}`));
  await there.reads(/^here$/m);
  await there.ask("echo there", /^there$/m);
  assert.match(await here.ending(), /This terminal was opened elsewhere/);

  await here.dotSays(id, "not connected here");
  assert.equal(await here.at("tab-close").getAttribute("title"), "Close", "it ends nothing");
  await here.page.bringToFront();
  await here.page.reload();
  assert.match(await here.ending(), /This terminal was opened elsewhere/, "a reload takes nothing back");
  await there.page.bringToFront();
  await there.stands("active");
  await there.ask("echo still", /^still$/m);
  await here.page.bringToFront();
  await here.at("take-back").click();
  await here.stands("active");
  // Without a click into the terminal.
  await here.page.keyboard.type("echo back\n");
  await here.reads(/^there\n.*^back$/ms);
  await here.dotSays(id, null);
  assert.match(await there.ending(), /This terminal was opened elsewhere/);
  assert.equal((await gateway.listed(id, "active")).id, id);
});

promise("a duplicate of a page takes none of its terminals by itself, and a reload of either changes nothing", async (lab) => {
  const gateway = await lab.demo();
  const here = await lab.follow(gateway, await lab.browser());
  const id = await here.openPlayground();
  await here.ask("echo here", /^here$/m);

  // A page that another one opens gets a copy of what that keeps, as a duplicate of a tab does.
  const opened = here.page.context().waitForEvent("page");
  await here.page.evaluate(() => void window.open(location.href));
  const there = new Desk(await opened);
  assert.match(await there.ending(), /This terminal was opened elsewhere/);
  await here.page.bringToFront();
  await here.ask("echo still", /^still$/m);
  await here.page.reload();
  await here.stands("active");
  assert.equal(await here.sessionId(), id);

  await there.page.bringToFront();
  await there.at("take-back").click();
  await there.ask("echo there", /^there$/m);
  await there.page.reload();
  await there.stands("active");
  assert.match(await here.ending(), /This terminal was opened elsewhere/);
});
