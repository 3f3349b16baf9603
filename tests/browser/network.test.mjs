// Tests a network that silently drops everything for half a minute: the terminal continues where it was.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const DOWN_MS = 30_000;
/** Time within which a page notices that the network is back: it tries every five seconds. */
const BACK_MS = 20_000;

promise("a network that is down for half a minute costs no byte of output and no key", async (lab, t) => {
  const island = lab.island();
  // Only the browser and the gateway are on this network.
  const gateway = await lab.demo({ "server.insecure": "true", "recording.compress": "false" }, island);
  const desk = await lab.desk(gateway);
  const got = overheard(desk.page);
  const counting = await desk.openPlayground();
  await desk.ask("clock", /^tick 2$/m);
  await desk.at("nav-new").click();
  const typing = await desk.openPlayground();
  assert.notEqual(typing, counting);
  await desk.ask("echo before", /^before$/m);

  island.drops();
  const begun = performance.now();
  // The page does not know yet: this is typed into a dead connection.
  await desk.type("echo into-the-dead-line");
  assert.match(await desk.at("notice").innerText(), /does not answer/);
  await desk.dotSays(typing, "no answer");
  await pause(DOWN_MS);
  island.passes();
  const mended = performance.now();
  await desk.reads(/^into-the-dead-line$/m, BACK_MS);
  t.diagnostic(`down for ${Math.round(mended - begun)} ms, back ${Math.round(performance.now() - mended)} ms after that`);
  await desk.stands("active");
  await desk.dotSays(typing, null);
  await desk.ask("echo after", /^after$/m);
  const shown = await desk.screen();
  assert.equal(shown.match(/^into-the-dead-line$/gm).length, 1, shown);
  assert.equal(shown.match(/echo into-the-dead-line/g).length, 1, shown);

  await desk.at(`tab-${counting}`).click();
  await desk.stands("active");
  await until("the ticks of the time without a network", async () => ticks(await desk.screen()).length > DOWN_MS / 1_000);
  await desk.page.keyboard.press("Control+KeyC");
  await desk.ask("echo counted", /^counted$/m);
  const counted = ticks(await desk.screen());
  assert.deepEqual(counted, Array.from(counted, (_, nth) => nth + 1), "each tick once, in order");

  for (const id of [counting, typing]) {
    await desk.at(`tab-${id}`).click();
    await desk.type("exit");
    await gateway.listed(id, "closed");
    await until("the page to hear of the end", () => got.get(id).closed);
    const { output, joints } = got.get(id);
    for (const { length, offset } of joints) assert.equal(offset, length, "it goes on where it was");
    assert.equal(output.toString(), recorded(gateway, id), "each byte once, in order");
  }
});

/** Collects the output that a page gets of each session, over all its sockets, and the offset at which each began. */
function overheard(page) {
  const sessions = new Map();
  page.on("websocket", (socket) => {
    const [, id] = /\/sessions\/([^/]+)\/terminal$/.exec(socket.url()) ?? [];
    if (id === undefined) return;
    const heard = sessions.get(id) ?? { output: Buffer.alloc(0), joints: [], closed: false };
    sessions.set(id, heard);
    socket.on("framereceived", ({ payload }) => {
      if (typeof payload !== "string") {
        heard.output = Buffer.concat([heard.output, payload]);
        return;
      }
      const { type, output_offset: offset } = JSON.parse(payload);
      if (type === "attached") heard.joints.push({ length: heard.output.length, offset });
      heard.closed ||= type === "closed";
    });
  });
  return sessions;
}

/** Returns the output of a session from its recording, which the network does not affect. */
function recorded(gateway, id) {
  const folder = join(gateway.data, "recordings");
  const path = readdirSync(folder, { recursive: true }).find((path) => path.endsWith(`${id}.cast`));
  const [, ...events] = readFileSync(join(folder, path), "utf8").trimEnd().split("\n");
  return events.map((event) => JSON.parse(event)).filter(([, code]) => code === "o").map(([, , text]) => text).join("");
}

/** Returns the ticks that stand on the screen. */
function ticks(shown) {
  return Array.from(shown.matchAll(/^tick (\d+)$/gm), ([, nth]) => Number(nth));
}
