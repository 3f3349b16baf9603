// Tests that a target can do no more to the page than fill its terminal, and a pasted text no more than be typed.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** Sends bytes as keys to the playground's `raw`, which sends each of them back as output. */
async function output(desk, text) {
  for (const part of text.split(/([\x1b\x07])/)) {
    if (part === "\x1b") await desk.page.keyboard.press("Escape");
    else if (part === "\x07") await desk.page.keyboard.press("Control+g");
    else await desk.page.keyboard.insertText(part);
  }
}

/** Resolves to what `look` finds once that is at least `count` things: a frame is painted after its text is known. */
function painted(desk, count, look) {
  return until(`${count} things to be painted`, async () => {
    const found = await desk.page.evaluate(look);
    if (found.length < count) throw new Error(`only ${found.length}`);
    return found;
  });
}

promise("a title is shown as text, without what could reorder or hide it", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const id = await desk.openPlayground();
  await desk.type("raw");
  await output(desk, "\x1b]0;<img src=x onerror=alert(1)>\u202eevil\u200b\u2066\x07ready");
  await desk.reads(/ready$/);
  const title = "<img src=x onerror=alert(1)>evil";
  await desk.page.waitForFunction((title) => document.title.includes(title), title);
  assert.equal(await desk.page.title(), `playground: ${title} · Pulsegate`);
  assert.equal(await desk.at(`tab-${id}`).locator("em").innerText(), title);
  assert.equal(await desk.page.locator("img").count(), 0);
});

promise("a target neither writes nor reads the clipboard", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await desk.openPlayground();
  await desk.page.evaluate(() => navigator.clipboard.writeText("mine"));
  await desk.type("raw");
  const base64 = (text) => Buffer.from(text).toString("base64");
  await output(desk, `\x1b]52;c;${base64("stolen")}\x07\x1b]52;c;?\x07ready`);
  await desk.reads(/ready$/);
  assert.equal(await desk.page.evaluate(() => navigator.clipboard.readText()), "mine");
  assert.ok(!(await desk.screen()).includes(base64("mine")));
});

promise("every character of the unicode sheet takes the cells it says", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.ask("unicode", /maths .*│\nplayground/);
  const bars = await painted(desk, 15, () => {
    const rows = [...document.querySelectorAll(".xterm-rows > div")].filter((row) => row.textContent.includes("│ "));
    return rows.map((row) => {
      const texts = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
      let last;
      while (texts.nextNode()) if (texts.currentNode.data.includes("│")) last = texts.currentNode;
      const range = document.createRange();
      range.setStart(last, last.data.lastIndexOf("│"));
      range.setEnd(last, range.startOffset + 1);
      return range.getBoundingClientRect().left;
    });
  });
  assert.ok(Math.max(...bars) - Math.min(...bars) < 1, `the bars stand at ${bars} px`);
});

promise("colours are painted", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.ask("colours", /struck\n/);
  await painted(desk, 257, () => {
    const cells = [...document.querySelectorAll(".xterm-rows span")];
    return [...new Set(cells.map((cell) => getComputedStyle(cell).backgroundColor))];
  });
});

promise("a full-screen page follows the window and gives the shell's screen back", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.type("page");
  const [, line] = await desk.reads(/^┌(─+)┐\n[^]*\n└─+┘$/);
  await desk.page.setViewportSize({ width: 800, height: 500 });
  await desk.reads(new RegExp(`^┌─{1,${line.length - 1}}┐\n[^]*\n└─+┘$`));
  await desk.page.keyboard.press("q");
  await desk.reads(/^Pulsegate playground\n[^]*page\nplayground:~\$$/);
});

promise("a paste is typed at once, and none of its control characters reaches the shell", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  await desk.at("terminal").click();
  await desk.page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", "echo a\x1b[201~b\x07\n");
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  });
  await desk.reads(/^a\[201~b$/m);
});
