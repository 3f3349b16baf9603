// Tests how pasted text, and text typed while disconnected, reaches a shell: after a question, shown, and only once.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("several lines are pasted only once confirmed, and without a question where the user turned it off", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();

  await paste(desk, "echo one\necho two\n");
  assert.match(await desk.at("lines").innerText(), /echo one\s+echo two/);
  await desk.page.keyboard.press("Enter"); // at first the focus is on Cancel
  await desk.at("lines-question").waitFor({ state: "detached" });
  await desk.ask("echo nothing came", /^nothing came$/m);
  assert.doesNotMatch(await desk.screen(), /^one$/m);

  await paste(desk, "echo one\necho two\n");
  await desk.at("lines-always").check();
  await desk.at("confirm-yes").click();
  await desk.reads(/^one\n(.*\n)*two$/m);

  await paste(desk, "echo three\necho four\n");
  await desk.reads(/^three\n(.*\n)*four$/m);
});

promise("one line is pasted at once, and none of its control characters reaches the shell", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await paste(desk, "echo a\x1b[201~b\x07\n");
  await desk.reads(/^a\[201~b$/m);
});

promise("a paste of 100 MiB arrives whole, and the terminal lives on", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.type("paste");
  const part = randomBytes(512 * 1024).toString("hex");
  await paste(desk, part, 100);
  await desk.page.keyboard.press("Control+d");
  const digest = createHash("sha256").update(part.repeat(100)).digest("hex");
  await desk.reads(new RegExp(`^paste: ${100 * 1024 * 1024} bytes, SHA-256 ${digest}$`, "m"), 60_000);
  await desk.ask("echo lives", /^lives$/m);
});

promise("a line typed while the gateway is away is shown and arrives once; several wait to be confirmed", async (lab) => {
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  const id = await desk.openPlayground();

  await away(desk, line, "echo typed away\n");
  await desk.reads(/^typed away$/m);
  await desk.at("waiting").waitFor({ state: "detached" });
  await desk.ask("echo done", /^done$/m);
  assert.equal((await desk.screen()).match(/^typed away$/gm).length, 1);
  await until("no word of the connection any more", async () => (await desk.at("pill").innerText()) === "");
  await desk.at("nav-sessions").click();
  await desk.at("terminal").waitFor({ state: "detached" });
  await desk.at(`tab-${id}`).click();
  assert.equal(await desk.at("pill").innerText(), "", "nor once it is in front again");

  await away(desk, line, "echo first\necho second\n");
  assert.match(await desk.at("lines").innerText(), /echo first\s+echo second/);
  assert.doesNotMatch(await desk.screen(), /^first$/m);
  await desk.at("confirm-yes").click();
  await desk.reads(/^first\n(.*\n)*second$/m);
});

promise("a user who went elsewhere on the page while the gateway is away stays there, however often it is tried", async (lab) => {
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  await desk.openPlayground();
  await desk.at("terminal").click();
  await line.cut();
  await desk.stands("reconnecting");
  await desk.page.keyboard.type("typed");
  await desk.at("waiting").waitFor();
  await desk.at("nav-sessions").focus();
  let tries = 0;
  desk.page.on("websocket", () => (tries += 1));
  // The third begins only after the second failed.
  await until("some tries", () => tries > 2);
  assert.equal((await desk.focus()).id, "nav-sessions");

  const pill = () => desk.at("pill").innerText();
  await until("the seconds to the next try", async () => /^reconnecting \d+ s…$/.test(await pill()));
  await line.mend();
  await until("a word that it goes on", async () => (await pill()) === "resumed");
  await until("nothing more to say", async () => (await pill()) === "");
});

promise("a page with input that it alone has asks before it is left", async (lab) => {
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  await desk.openPlayground();
  await desk.ask("echo here", /^here$/m);
  await line.cut();
  await desk.stands("reconnecting");
  await desk.page.keyboard.type("echo kept");
  await desk.at("waiting").waitFor();
  const asked = desk.page.waitForEvent("dialog");
  await desk.page.evaluate(() => void setTimeout(() => location.reload()));
  const question = await asked;
  assert.equal(question.type(), "beforeunload");
  await question.dismiss();
  await line.mend();
  await desk.stands("active");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^kept$/m);
});

promise("what is typed goes to the terminal once the button that was pressed beside it is gone", async (lab) => {
  const gateway = await lab.demo();
  const line = await lab.line(gateway);
  const desk = new Desk(await (await lab.browser()).open(line.through(gateway.link)));
  const { keyboard } = desk.page;
  const behind = await desk.openPlayground();
  await desk.at("nav-new").click();
  await desk.openPlayground();
  await desk.at("tab-close").first().click();
  await desk.at(`tab-${behind}`).waitFor({ state: "detached" });
  await keyboard.type("echo one-left\n");
  await desk.reads(/^one-left$/m);

  await line.cut();
  await desk.stands("reconnecting");
  await keyboard.type("discarded");
  await desk.at("waiting-discard").click();
  await desk.at("waiting").waitFor({ state: "detached" });
  await line.mend();
  await desk.stands("active");
  await keyboard.type("echo kept\n");
  await desk.reads(/^kept$/m);
});

promise("the focus stays in the bar when a tab is closed that no terminal takes the place of", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.at("nav-sessions").click();
  await desk.at("tab-close").click();
  await until("the focus on the view in front", async () => (await desk.focus()).id === "nav-sessions");
});

/** Pastes a text, repeated `times` times, into the terminal in front, as a browser does it. */
async function paste(desk, text, times = 1) {
  await desk.at("terminal").click();
  await desk.page.evaluate(([text, times]) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text.repeat(times));
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  }, [text, times]);
}

/** Types while the network is down, then brings it back. */
async function away(desk, line, text) {
  await desk.at("terminal").click();
  await line.cut();
  await desk.stands("reconnecting");
  await desk.page.keyboard.type(text);
  await until("what was typed to be shown", async () => /⏎/.test(await desk.at("waiting").innerText()));
  await line.mend();
  await desk.stands("active");
}
