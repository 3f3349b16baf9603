// Tests what neither a foreign page nor content in one of ours can do: frame it, run in it, or use a terminal to answer
// in the user's name.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** A foreign web server whose only page is `html`; stopped with the test. */
async function foreignSite(html) {
  const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(html));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // Another port is another origin but the same site: our cookies are sent along.
  return { origin: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

promise("no page of another origin has ours in a frame, or gets anything of it", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  const site = await foreignSite(`<iframe src="${gateway.origin}/"></iframe><iframe src="${gateway.origin}/api/docs"></iframe>`);
  try {
    const page = await desk.page.context().newPage();
    const refused = [];
    page.on("requestfailed", (request) => refused.push(`${request.url()} ${request.failure().errorText}`));
    await page.goto(site.origin);
    const frames = ["/", "/api/docs"].map((path) => `${gateway.origin}${path} net::ERR_BLOCKED_BY_RESPONSE`);
    await until("both frames to be refused", () => frames.every((frame) => refused.includes(frame)));

    // Its scripts read nothing, change nothing and open no terminal.
    const tried = await page.evaluate(async ({ origin, id }) => {
      const told = (asked) => asked.then(({ status }) => status, () => "nothing");
      const socket = new WebSocket(`${origin.replace("http", "ws")}/api/v1/sessions/${id}/terminal`, "pulsegate.v1");
      const opened = new Promise((tell) => {
        socket.onopen = () => tell("opened");
        socket.onclose = () => tell("closed");
      });
      return {
        read: await told(fetch(`${origin}/api/v1/me`, { credentials: "include" })),
        json: await told(fetch(`${origin}/api/v1/sessions/${id}`, { method: "DELETE", credentials: "include" })),
        simple: (await fetch(`${origin}/api/v1/logout`, { method: "POST", mode: "no-cors", credentials: "include" })).type,
        socket: await opened,
      };
    }, { origin: gateway.origin, id });
    assert.deepEqual(tried, { read: "nothing", json: "nothing", simple: "opaque", socket: "closed" });
  } finally {
    site.stop();
  }
  await desk.page.bringToFront();
  await desk.ask("echo unharmed", /^unharmed$/m);
  await desk.page.reload();
  await desk.stands("active");
  const told = await until("the audit log to tell", async () => {
    const { items } = await gateway.get("/audit?action=origin.refused");
    return items.length >= 2 && items;
  });
  assert.ok(told.every(({ subject, outcome }) => subject === site.origin && outcome === "refused"), JSON.stringify(told));
});

promise("no script that gets into a page runs, and none of another origin is fetched", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.at("target-playground").waitFor();
  const site = await foreignSite("window.hacked = 'fetched'");
  try {
    const tried = await desk.page.evaluate(async (origin) => {
      const broken = [];
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => broken.push(effectiveDirective));
      const add = (name, set) => {
        const element = Object.assign(document.createElement(name), set);
        document.body.append(element);
        return element;
      };
      add("script", { textContent: "window.hacked = 'inline'" });
      add("script", { src: `${origin}/x.js` });
      add("script", { src: "data:text/javascript,window.hacked='data'" });
      add("script", { src: URL.createObjectURL(new Blob(["window.hacked = 'blob'"])) });
      add("div", { innerHTML: "<img src=x onerror=\"window.hacked = 'attribute'\"><svg onload=\"window.hacked = 'svg'\"></svg>" });
      add("iframe", { srcdoc: "<script>parent.hacked = 'frame'</script>" });
      add("base", { href: origin });
      add("a", { href: "javascript:window.hacked='link'" }).click();
      add("object", { data: `${origin}/x` });
      const fetched = await fetch(origin, { mode: "no-cors" }).then(() => "fetched", () => "no");
      await new Promise((done) => setTimeout(done, 500));
      return { hacked: window.hacked, fetched, base: document.baseURI.startsWith(origin), broken: [...new Set(broken)].sort() };
    }, site.origin);
    const { broken, ...rest } = tried;
    assert.deepEqual(rest, { hacked: undefined, fetched: "no", base: false });
    for (const directive of ["script-src-elem", "script-src-attr", "connect-src", "base-uri"]) assert.ok(broken.includes(directive), `${directive}: ${broken}`);
  } finally {
    site.stop();
  }
});

/** Collects the input that a page sends to its terminal from now on, as text. */
function sent(page) {
  const frames = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => typeof payload !== "string" && frames.push(payload.toString("latin1"))));
  return () => frames.join("");
}

/** Opens a shell of OpenSSH; gives access to the input that the page sends to it. */
async function shell(lab) {
  const sshd = await lab.sshd({ login: "key" });
  const gateway = await lab.serve(`
ssh: { host_key_policy: accept_new }
targets:
  - { name: box, host: 127.0.0.1, port: ${sshd.port}, username: ${sshd.user}, auth: { key_file: ${sshd.userKey} } }
`);
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  const typed = sent(desk.page);
  await desk.signIn(gateway.token);
  await desk.at("target-box").click();
  await desk.stands("active");
  /** Makes the target output these bytes, and then `ready`, while its shell reads nothing. */
  const puts = async (bytes) => {
    const base64 = Buffer.from(bytes, "latin1").toString("base64");
    await desk.type(`clear; stty -echo; printf %s ${base64} | base64 -d; echo; echo re''ady; cat > /dev/null`);
    await desk.reads(/^ready$/m);
    return () => typed().split("cat > /dev/null\r")[1];
  };
  return { desk, puts };
}

promise("a target is told nothing that it put into the terminal itself, and no title", async (lab) => {
  const { desk, puts } = await shell(lab);
  const asks = [
    "\x1b]2;touch /tmp/stolen\x07", // a title of the target's choice …
    "\x1b[21t\x1b[20t", // … asked for
    "\x1b[11t\x1b[13t\x1b[14t\x1b[15t\x1b[16t\x1b[18t\x1b[19t", // where the window is, and how large
    "\x1b[3;0;0t\x1b[4;10;10t\x1b[8;10;10t\x1b[9;1t\x1b[2t", // moves, shrinks, makes it an icon
    "\x1bP$qtouch stolen\r\x1b\\\x1bP$q\"p\x1b\\", // DECRQSS, of words and of a setting
    "\x1bP+q746f756368\x1b\\", // XTGETTCAP
    "\x05", // ENQ
    "\x1b]52;c;dG91Y2ggc3RvbGVu\x07\x1b]52;c;?\x07", // clipboard
    "\x1b]50;?\x07\x1b]7;file://evil/\x07\x1b]1337;File=inline=1:AAAA\x07",
  ].join("");
  const size = await desk.page.evaluate(() => [innerWidth, innerHeight]);
  const answered = await puts(asks);
  // All answers have been sent by now: the terminal parses in order.
  assert.ok(!/touch|stolen|]l|]L|dG91/.test(answered()), JSON.stringify(answered()));
  assert.deepEqual(await desk.page.evaluate(() => [innerWidth, innerHeight]), size);
  assert.ok(!/\x1b\[\d+;\d+;\d+t/.test(answered()), `no report of the window: ${JSON.stringify(answered())}`);
});

promise("a link of a target's leads to a web page or nowhere, and only with the key held", async (lab) => {
  const { desk, puts } = await shell(lab);
  const link = (uri, text) => `\x1b]8;;${uri}\x07${text}\x1b]8;;\x07\r\n`;
  const hostile = ["javascript:window.hacked=1", "data:text/html,<script>window.hacked=1</script>", "file:///etc/passwd", "vbscript:x"];
  const { page } = desk;
  const honest = (word) => `${new URL(page.url()).origin}/healthz?${word}`;
  await puts(hostile.map((uri, nth) => link(uri, `hostile-${nth}-link`)).join("") + link(honest("unheld"), "honest-link") + link(honest("held"), "held-link"));
  const opened = [];
  page.context().on("page", (page) => opened.push(page));
  const click = async (text, options) => {
    const row = page.locator(".xterm-rows > div", { hasText: text });
    const { x, y, height } = await row.boundingBox();
    await page.mouse.move(x + 20, y + height / 2);
    await page.mouse.move(x + 24, y + height / 2);
    if (options.held) await page.keyboard.down("Control");
    await page.mouse.click(x + 24, y + height / 2);
    if (options.held) await page.keyboard.up("Control");
  };
  for (const nth of hostile.keys()) await click(`hostile-${nth}-link`, { held: true });
  await click("honest-link", { held: false });
  await click("held-link", { held: true });
  // Pages open in the order of the clicks, so any opened before this one is known by now.
  await until("the link to open with the key held", () => opened.some((page) => page.url() === honest("held")));
  assert.deepEqual([await page.evaluate(() => window.hacked), await desk.sessionId() !== null], [undefined, true]);
  assert.equal(opened.length, 1);
});

promise("a flood of an unfinished sequence costs the page neither its memory nor its terminal", async (lab) => {
  const { desk } = await shell(lab);
  const heap = async () => {
    const session = await desk.page.context().newCDPSession(desk.page);
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    await session.detach();
    return usedSize;
  };
  const before = await heap();
  for (const begin of ["P1;2q", "]0;", "]8;;http://", "_", "^", "[1;2;3"]) {
    await desk.type(`clear; printf '\\033${begin}'; head -c 20000000 /dev/zero | tr '\\0' 7; printf '\\033\\\\\\n'; echo wh''ole`);
    await desk.reads(/^whole$/m, 60_000);
  }
  const grown = (await heap()) - before;
  assert.ok(grown < 32 << 20, `the page's memory grew by ${grown} bytes`);
  await desk.ask("echo $((6*7))", /^42$/m);
});
