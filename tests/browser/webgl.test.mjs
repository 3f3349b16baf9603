// Tests of the terminal that draws with WebGL, which a machine with a graphics card has: here the card's name is a lie.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** `UNMASKED_RENDERER_WEBGL`: by it the page knows a renderer in software. */
const RENDERER = 0x9246;

promise("a terminal whose WebGL is taken away goes on with every column in sight", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser(["--enable-unsafe-swiftshader"]);
  await browser.context.addInitScript((renderer) => {
    const { getParameter } = WebGL2RenderingContext.prototype;
    WebGL2RenderingContext.prototype.getParameter = function (name) {
      return name === renderer ? "ANGLE (a card)" : getParameter.call(this, name);
    };
    const { getContext } = HTMLCanvasElement.prototype;
    window.contexts = [];
    HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
      const context = getContext.call(this, kind, ...rest);
      if (kind === "webgl2" && context !== null) window.contexts.push(context);
      return context;
    };
  }, RENDERER);
  const desk = await lab.follow(gateway, browser);
  await desk.openPlayground();
  await desk.ask("echo one", /^one$/m);
  // Its canvas is of the terminal, not of the trial whether WebGL is fast.
  const canvases = () => desk.at("terminal").locator(".xterm-screen canvas").count();
  await until("a canvas", async () => (await canvases()) > 0);
  await until("text on it", () => isDrawn(desk));

  await desk.page.evaluate(() => {
    for (const context of window.contexts) context.getExtension("WEBGL_lose_context")?.loseContext();
  });
  await until("rows of text", async () => (await desk.at("terminal").locator(".xterm-rows > div").count()) > 0);
  const right = (locator) => locator.evaluate((element) => element.getBoundingClientRect().right);
  await until("every column in sight", async () => {
    return (await right(desk.at("terminal").locator(".xterm-screen"))) <= (await right(desk.at("terminal")));
  });
  await until("text in the rows", () => isDrawn(desk));
  await desk.ask("echo two", /^two$/m);
  assert.match(await desk.screen(), /^one$/m);
});

/** Whether the greeting, which begins at the top, is in the picture: it looks unlike a place without text. */
async function isDrawn(desk) {
  const { x, y, width, height } = await desk.at("terminal").locator(".xterm-screen").boundingBox();
  const picture = (y) => desk.page.screenshot({ clip: { x, y, width: width / 4, height: 20 } });
  return !(await picture(y)).equals(await picture(y + height * 0.75));
}
