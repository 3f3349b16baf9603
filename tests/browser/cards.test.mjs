// Tests that what a page shows beside a terminal's output leaves the user the line that they look at.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";

/** Asserts that none of the cards in sight lies over what `selector` names, once drawn. */
async function free(desk, selector) {
  await until(`no card over ${selector}`, async () => {
    const [cards, under] = await desk.page.evaluate((selector) => {
      const box = (element) => element.getBoundingClientRect().toJSON();
      const cards = [...document.querySelectorAll("[data-testid=cards] > *")].map(box).filter(({ height }) => height > 0);
      return [cards, box(document.querySelector(`[data-testid=terminal] ${selector}`))];
    }, selector);
    assert.ok(cards.length > 0, "a card is in sight");
    for (const { top, bottom } of cards) assert.ok(bottom <= under.top || top >= under.bottom, `${top} to ${bottom} over ${under.top} to ${under.bottom}`);
    return true;
  });
}

promise("no card covers the line one types on or the match one looks at, nor the output where control is on show", async (lab) => {
  const gateway = await lab.demo();
  const owner = await lab.desk(gateway);
  await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: ["*"], password: PASSWORD });
  const id = await owner.openPlayground();
  const ada = new Desk(await (await lab.browser()).open(gateway.origin));
  await ada.signInAs("ada", PASSWORD);
  await ada.at("nav-sessions").click();
  await ada.row(id).getByTestId("session-watch").click();
  await ada.at("control-ask").click();
  await owner.at("control-request").waitFor();

  await free(owner, ".xterm-cursor");
  await owner.ask("flood 9000", /^flood: 9000 bytes$/m);
  await free(owner, ".xterm-cursor");
  await owner.at("tab-find").click();
  await owner.at("search-input").fill("0000000");
  await owner.at("search-input").press("Enter");
  await free(owner, ".xterm-selection > div");
  await owner.page.keyboard.press("Escape");

  await free(ada, ".xterm-screen");
  await owner.at("control-allow").click();
  await ada.at("control-return").waitFor();
  await ada.ask("echo lent", /^lent$/m);
  await free(ada, ".xterm-screen");
  await owner.reads(/^lent$/m);
  await free(owner, ".xterm-screen");
});

promise("what closes a session soon is said in one place", async (lab) => {
  const desk = await lab.desk(await lab.demo({ "session.idle_timeout": "12s", "session.max_duration": "14s" }));
  await desk.openPlayground();
  const both = desk.at("closes-soon").filter({ has: desk.at("idle-warning") }).filter({ has: desk.at("duration-warning") });
  await both.waitFor();
  await free(desk, ".xterm-cursor");
});
