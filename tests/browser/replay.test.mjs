// Tests using a recording: playing it in the browser, searching it, jumping in it, and downloading it.
import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** Longest time until a jump is on the screen, however long the recording. How much a jump may draw at most is tested
 *  in `cast.test.ts`. */
const JUMP_MS = 300;

promise("a session is replayed to the second, searched, followed while it runs, and downloaded", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.ask("echo first-words", /^first-words$/m);

  const page = await desk.page.context().newPage();
  await page.goto(`${gateway.origin}/#/r/${id}`);
  await page.locator("[data-testid=replay][data-loaded=true]").waitFor();
  await until("the focus on Play", () => page.getByTestId("replay-play").evaluate((play) => play === document.activeElement));
  const shown = () => page.evaluate(() => window.pulsegate.text());
  await until("the first screen", async () => (await shown()).trim() !== "");
  await page.getByTestId("replay-live").click();
  const bottom = (of) => page.locator(of).boundingBox().then(({ y, height }) => y + height);
  await until("the whole film to be in sight", async () => {
    const [film, grid] = [await bottom("[data-testid=replay-film]"), await bottom("[data-testid=replay-film] .xterm-screen")];
    return grid <= film + 1;
  });
  await desk.page.bringToFront();
  await desk.ask("echo later-words", /^later-words$/m);
  await until("the replay to follow the session", async () => /^later-words$/m.test(await shown()));

  await desk.type("exit");
  await gateway.listed(id, "closed");
  await page.bringToFront();
  await page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await page.getByTestId("replay-seek").fill("0");
  await until("the beginning to be shown", async () => !(await shown()).includes("first-words"));
  await page.getByTestId("replay-search").fill("FIRST-words");
  await page.getByTestId("replay-search").press("Enter");
  await until("the place that was searched", async () => /first-words/.test(await shown()) && !(await shown()).includes("later-words"));
  await page.getByTestId("replay-search").fill("never-said");
  await page.getByTestId("replay-search").press("Enter");
  await page.getByRole("status").filter({ hasText: "No match" }).waitFor();
  await page.evaluate(() => (location.hash += "/t=99999"));
  await until("the second that the address names", async () => (await shown()).includes("later-words"));
  await page.getByTestId("replay-seek").fill("0");
  await page.getByTestId("replay-speed").selectOption("16");
  await page.getByTestId("replay-play").click();
  await until("the replay to reach its end", async () => /^later-words$/m.test(await shown()));

  const link = page.getByTestId("replay-download");
  assert.equal(await link.getAttribute("download"), `${id}.cast`);
  const file = await link.evaluate((link) => fetch(link.href).then((answer) => answer.text()));
  assert.match(file, /^\{"[^\n]*"version":2/);
  assert.match(file, /later-words/);
});

promise("a replay that follows a session goes on once a gateway that was killed is back", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.ask("echo last-words", /^last-words$/m);
  await desk.page.goto(`${gateway.origin}/#/r/${id}`);
  await desk.page.locator("[data-testid=replay][data-loaded=true]").waitFor();
  await gateway.kill();
  const problem = desk.page.getByRole("alert");
  await problem.waitFor();
  await gateway.start();
  await desk.page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await problem.waitFor({ state: "detached" });
});

/** Opens a recording of six hours, and returns once it is indexed. */
async function sixHours(lab) {
  // Its file is rewritten below.
  const gateway = await lab.demo({ "recording.compress": "false" });
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.type("exit");
  await gateway.listed(id, "closed");
  const name = readdirSync(join(gateway.data, "recordings"), { recursive: true }).find((path) => path.endsWith(`${id}.cast`));
  const path = join(gateway.data, "recordings", name);
  const [header] = readFileSync(path, "utf8").split("\n");
  const seconds = 6 * 3600;
  const line = (at) => `\x1b[3${at % 8}mline ${at}\x1b[0m ${"lorem ipsum ".repeat(60)}\r\n`;
  const events = Array.from({ length: seconds }, (_, at) => JSON.stringify([at, "o", line(at)]));
  const seal = JSON.stringify([seconds, "h", `end ${"0".repeat(64)}`]);
  writeFileSync(path, [header, ...events, seal, ""].join("\n"));

  await desk.page.goto(`${gateway.origin}/#/r/${id}/t=20000`);
  const replay = desk.page.locator("[data-testid=replay][data-sealed=true]");
  await replay.waitFor({ timeout: 60_000 });
  const shows = (at) => until(`second ${at}`, async () => (await desk.screen()).trimEnd().includes(`line ${at} `));
  await shows(20_000);
  const keyframes = () => replay.getAttribute("data-keyframes").then(Number);
  await until("the keyframes of the whole recording", async () => (await keyframes()) >= 50, 60_000);
  return { page: desk.page, replay, shows, keyframes };
}

promise("a jump in a recording of six hours is on the screen in less than 300 ms", async (lab, t) => {
  const { page, replay, shows, keyframes } = await sixHours(lab);
  const took = [];
  for (const at of [21_599, 3, 10_800, 20_001, 7_200, 15_000, 18_000]) {
    await page.getByTestId("replay-seek").fill(String(at));
    await shows(at);
    took.push(Number(await replay.getAttribute("data-jump-ms")));
  }
  t.diagnostic(`jumps took ${took.join(", ")} ms, with ${await keyframes()} keyframes`);
  assert.ok(Math.max(...took) < JUMP_MS, `${took} ms`);
});

promise("a replay that cannot read its recording again says so and stops, and goes on with the next jump", async (lab) => {
  const { page, shows } = await sixHours(lab);
  const [alert, play, hits] = [page.getByRole("alert"), page.getByTestId("replay-play"), page.getByTestId("replay-hits")];
  const seek = (at) => page.getByTestId("replay-seek").fill(String(at));
  const tear = () =>
    page.evaluate(() => {
      const { text } = Blob.prototype;
      Blob.prototype.text = () => ((Blob.prototype.text = text), Promise.reject(new DOMException("", "NotReadableError")));
    });
  await play.click();
  await play.filter({ hasText: "Pause" }).waitFor();
  await tear();
  await seek(3);
  await alert.waitFor();
  await play.filter({ hasText: "Play" }).waitFor();
  await seek(10_800);
  await shows(10_800);
  await alert.waitFor({ state: "detached" });

  await tear();
  await seek(3);
  await alert.waitFor();
  await play.click();
  await alert.waitFor({ state: "detached" });
  await play.filter({ hasText: "Pause" }).waitFor();

  await page.getByTestId("replay-search").fill("line 777 lorem");
  await page.getByTestId("replay-search").press("Enter");
  await hits.filter({ hasText: "1 of 1" }).waitFor();
  await shows(777);
  await tear();
  await page.getByTestId("replay-search").press("Enter");
  await alert.waitFor();
  assert.equal((await hits.innerText()).trim(), "");
});
