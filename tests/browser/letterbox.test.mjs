// Tests pages that watch a terminal whose size another page sets: they show all of it, however large or small they are.
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

/** Returns the number of rows of the terminal. */
const rows = (desk) => desk.page.locator("[data-testid=terminal] .xterm-rows > div").count();

for (const [kind, size] of [["smaller", { width: 560, height: 380 }], ["larger", { width: 1600, height: 1000 }]]) {
  promise(`a ${kind} page that watches shows the whole screen of the page with control`, async (lab) => {
    const gateway = await lab.demo();
    const owner = await lab.desk(gateway);
    await owner.page.setViewportSize({ width: 1000, height: 640 });
    await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: [], password: PASSWORD });
    const id = await owner.openPlayground();
    await owner.ask("size", /^(\d+)×(\d+)$/m);
    await owner.ask("page", /arrows move/);

    const ada = new Desk(await (await lab.browser()).open(gateway.origin));
    await ada.page.setViewportSize(size);
    await ada.at("signin-name").fill("ada");
    await ada.at("signin-password").fill(PASSWORD);
    await ada.at("signin-submit").click();
    await ada.at("nav-sessions").click();
    await ada.row(id).getByTestId("session-watch").click();
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
