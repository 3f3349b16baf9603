// Tests that in the narrowest window no button lies beyond the edge of what it belongs to, however long a name is, and that
// several terminals can be told apart in a small one.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";

const PASSWORD = "correct horse battery";
/** A name without a place to break it. */
const NAME = "thirty.letters.and.not.a.blank";
/** The narrowest window for which pages are made (WCAG 2.2, 1.4.10), in pixels. */
const NARROW = { width: 320, height: 640 };

/** Asserts that these buttons can be seen, and whole. */
async function fit(desk, where) {
  await desk.page.locator(".buttons > button:visible").first().waitFor();
  const cut = await desk.page.evaluate(() => {
    const buttons = [...document.querySelectorAll(".buttons > button")].filter((button) => button.checkVisibility());
    const beyond = buttons.filter((button) => {
      const [{ left, right }, place] = [button, button.closest("dialog, .strip")].map((element) => element.getBoundingClientRect());
      return left < Math.max(place.left, 0) || right > Math.min(place.right, innerWidth) || button.scrollWidth > button.clientWidth;
    });
    return beyond.map((button) => button.textContent);
  });
  assert.deepEqual(cut, [], where);
}

promise("a button is whole in the narrowest window", async (lab) => {
  const gateway = await lab.demo();
  await gateway.change("POST", "/users", { name: NAME, role: "user", grants: ["playground"], password: PASSWORD });
  await gateway.change("POST", "/targets", { name: NAME, host: "192.0.2.1", username: "deploy", tags: ["prod"] });
  const admin = await lab.desk(gateway);
  await admin.page.setViewportSize(NARROW);
  await admin.at(`target-${NAME}`).click();
  await admin.at("typed-confirm").waitFor();
  await fit(admin, "a production target");
  await admin.at("confirm-no").click();
  await admin.at(`change-${NAME}`).click();
  await admin.at("target-remove").click();
  await admin.at("typed-confirm").waitFor();
  await fit(admin, "a target to be removed");
  await admin.at("confirm-no").click();
  await admin.at("nav-people").click();
  await admin.at("person-password").click();
  await fit(admin, "a new password");
  await admin.page.keyboard.press("Escape");

  const theirs = new Desk(await (await lab.browser()).open(gateway.origin));
  await theirs.signInAs(NAME, PASSWORD);
  const id = await theirs.openPlayground();
  await theirs.ask("echo here", /^here$/m);
  await admin.at("nav-sessions").click();
  await admin.row(id).getByTestId("session-watch").click();
  await admin.reads(/^here$/m);
  await theirs.type("exit");
  await admin.at("closed-replay").waitFor();
  await fit(admin, "the end of a session that was watched");
});

promise("terminals of one target are told apart by whole numbers, and closed, in a small window", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  for (let nth = 0; nth < 3; nth += 1) {
    await desk.at("nav-new").click();
    await desk.openPlayground();
  }
  for (const size of [{ width: 1024, height: 700 }, { width: 390, height: 844 }]) {
    await desk.page.setViewportSize(size);
    const shown = await desk.page.getByRole("navigation", { name: "Terminals" }).evaluate((tabs) => {
      const { left, right } = tabs.getBoundingClientRect();
      const isWhole = (part) => {
        const place = part.getBoundingClientRect();
        return place.left >= left && place.right <= right && place.width > 0 && part.scrollWidth <= part.offsetWidth;
      };
      const numbers = [...tabs.querySelectorAll(".number")].filter(isWhole).map((number) => number.textContent);
      return { numbers, closes: [...tabs.querySelectorAll("[data-testid=tab-close]")].filter(isWhole).length };
    });
    assert.deepEqual(shown, { numbers: ["2", "3"], closes: 3 }, `${size.width} pixels`);
    // The words may give way, the names do not.
    for (const name of ["Targets", "Sessions"]) await desk.page.getByRole("link", { name, exact: true }).waitFor();
    await desk.isAccessible();
  }
});
