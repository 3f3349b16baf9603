// Tests pages that watch a terminal whose size another page sets: they show all of it, or, where letters would be too
// small to read, the part with the cursor, unless all of it is asked for.
import assert from "node:assert/strict";
import { join } from "node:path";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";

/** Returns the edges of the terminal's place and of its grid, in pixels. */
const measure = (desk) =>
  desk.page.evaluate(() => {
    const place = document.querySelector("[data-testid=terminal]").getBoundingClientRect();
    const grid = document.querySelector("[data-testid=terminal] .xterm-screen").getBoundingClientRect();
    return { place: [place.left, place.top, place.right, place.bottom], grid: [grid.left, grid.top, grid.right, grid.bottom] };
  });

/** Signs ada in at a page of this size, who then watches this session. */
async function watches(lab, gateway, id, size) {
  const ada = new Desk(await (await lab.browser()).open(gateway.origin));
  await ada.page.setViewportSize(size);
  await ada.signInAs("ada", PASSWORD);
  await ada.at("nav-sessions").click();
  await ada.row(id).getByTestId("session-watch").click();
  return ada;
}

/** Returns the number of rows of the terminal. */
const rows = (desk) => desk.page.locator("[data-testid=terminal] .xterm-rows > div").count();

for (const [kind, size] of [["smaller", { width: 960, height: 560 }], ["larger", { width: 1600, height: 1000 }]]) {
  promise(`a ${kind} page that watches shows the whole screen of the page with control`, async (lab) => {
    const gateway = await lab.demo();
    const owner = await lab.desk(gateway);
    await owner.page.setViewportSize({ width: 1000, height: 640 });
    await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: [], password: PASSWORD });
    const id = await owner.openPlayground();
    await owner.ask("size", /^(\d+)×(\d+)$/m);
    await owner.ask("page", /arrows move/);

    const ada = await watches(lab, gateway, id, size);
    const same = () => until("the same screen", async () => {
      const shown = await owner.screen();
      return /arrows move/.test(shown) && shown === (await ada.screen());
    });
    await same();
    const whole = async () => {
      const { place, grid } = await measure(ada);
      const within = place[0] <= grid[0] && place[1] <= grid[1] && grid[2] <= place[2] + 1 && grid[3] <= place[3] + 1;
      if (!within) throw new Error(`the grid at ${grid} does not lie within ${place}`);
      return true;
    };
    await until("the whole grid to be in sight", whole);
    if (process.env.PICTURES) await ada.page.screenshot({ path: join(process.env.PICTURES, `letterbox-${kind}.png`) });

    // The owner's window changes, and with it what every page shows, each in its own time.
    const before = await rows(owner);
    await owner.page.setViewportSize({ width: 1280, height: 500 });
    await until("the owner's rows to be fewer", async () => (await rows(owner)) < before);
    await until("as many rows for who looks on", async () => (await rows(ada)) === (await rows(owner)));
    await same();
    await until("the whole grid to be in sight again", whole);
  });
}

promise("a phone that watches shows letters that can be read, and of a wide screen the part with the cursor", async (lab) => {
  const gateway = await lab.demo();
  const owner = await lab.desk(gateway);
  await owner.page.setViewportSize({ width: 1600, height: 800 });
  await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: [], password: PASSWORD });
  const id = await owner.openPlayground();
  const ada = await watches(lab, gateway, id, { width: 390, height: 844 });
  await ada.reads(/^Pulsegate playground$/m);
  const look = () =>
    ada.page.evaluate(() => {
      const place = document.querySelector("[data-testid=terminal]");
      const [{ left, right }, cursor] = [place, place.querySelector(".xterm-cursor")].map((element) => element.getBoundingClientRect());
      const pixels = parseFloat(getComputedStyle(place.querySelector(".xterm-rows")).fontSize);
      return { pixels, scrolled: place.scrollLeft, seen: left <= cursor.left && cursor.right <= right };
    });
  const shows = (what, fits) => until(what, async () => fits(await look()));
  await shows("the prompt", ({ seen, scrolled }) => seen && scrolled === 0);
  assert.ok((await look()).pixels >= 10);

  await owner.page.keyboard.type(`echo ${"far ".repeat(30)}`);
  await shows("the end of a long line", ({ seen, scrolled }) => seen && scrolled > 300);
  // Who looks elsewhere is left there.
  await ada.page.evaluate(() => (document.querySelector("[data-testid=terminal]").scrollLeft = 0));
  await shows("its beginning", ({ seen, scrolled }) => !seen && scrolled === 0);
  await owner.page.keyboard.type("off");
  await ada.reads(/far off$/m);
  await ada.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  assert.equal((await look()).scrolled, 0);
  await owner.page.keyboard.press("Enter");
  await shows("the next prompt", ({ seen }) => seen);
  await owner.page.keyboard.type("x".repeat(120));
  await shows("the end of the next line", ({ seen, scrolled }) => seen && scrolled > 300);
});

promise("a phone that watches shows all of a wide screen if asked, and then again what can be read", async (lab) => {
  const gateway = await lab.demo();
  const owner = await lab.desk(gateway);
  await owner.page.setViewportSize({ width: 1000, height: 640 });
  await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: [], password: PASSWORD });
  const id = await owner.openPlayground();
  const ada = await watches(lab, gateway, id, { width: 390, height: 844 });
  await ada.reads(/^Pulsegate playground$/m);
  const width = async () => {
    const { place, grid } = await measure(ada);
    return (grid[2] - grid[0]) / (place[2] - place[0]);
  };
  await until("a part in sight", async () => (await width()) > 1);
  const whole = ada.page.getByRole("button", { name: "Whole screen" });
  await whole.click();
  await until("all of it", async () => (await width()) <= 1);
  assert.ok((await width()) > 0.6, "as large as it can be");
  assert.equal(await whole.getAttribute("aria-pressed"), "true");
  if (process.env.PICTURES) await ada.page.screenshot({ path: join(process.env.PICTURES, "letterbox-whole.png") });
  await ada.isAccessible();
  await whole.click();
  await until("a part in sight again", async () => (await width()) > 1);
  await ada.page.setViewportSize({ width: 1280, height: 844 });
  await whole.waitFor({ state: "detached" });
});
