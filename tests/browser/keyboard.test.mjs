// Tests that everything can be done with the keyboard alone, that the focus is always visible, and that the page sends
// requests only to its gateway. No test in here uses a mouse.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";

/** Goes to the element with this test id by Tab and presses Enter. */
async function press(desk, id, key = "Tab") {
  await desk.tabTo(id, key);
  await desk.page.keyboard.press("Enter");
}

/** Goes to a field by Tab and types into it. */
async function fill(desk, id, text) {
  await desk.tabTo(id);
  await desk.page.keyboard.type(text);
}

/** Presses Escape in a dialog; it must close, and the focus return to the element that opened it. */
async function leave(desk, dialog, opener) {
  await desk.page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await until(`the focus back on ${opener}`, async () => (await desk.focus()).id === opener);
}

async function focused(desk, id) {
  await until(`the focus on ${id}`, async () => (await desk.focus()).id === id);
}

promise("a user signs in, works, ends a session, adds a target and invites another user without a mouse", async (lab) => {
  const gateway = await lab.demo();
  await gateway.change("POST", "/users", { name: "root", role: "admin", grants: ["*"], password: PASSWORD });
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  const { keyboard } = desk.page;

  await focused(desk, "signin-name");
  await keyboard.type("root");
  await fill(desk, "signin-password", "wrong");
  await keyboard.press("Enter");
  await until("the refusal", async () => (await desk.at("signin-problem").innerText()) !== "");
  await focused(desk, "signin-password");
  await keyboard.type(PASSWORD);
  await keyboard.press("Enter");

  // A terminal gets the focus as soon as it is there; the rest of the page is reached from it.
  await desk.at("target-playground").waitFor();
  await press(desk, "target-playground");
  await desk.reads(/^Pulsegate playground$/m);
  await keyboard.type("echo by-hand");
  await keyboard.press("Enter");
  await desk.reads(/^by-hand$/m);
  const id = await desk.sessionId();
  // The terminal takes Tab for itself, so another key leads out.
  await keyboard.press("Tab");
  await keyboard.press("Shift+Tab");
  assert.match((await desk.focus()).tag, /xterm-helper-textarea/);
  await keyboard.press("Control+Shift+ArrowUp");
  await focused(desk, `tab-${id}`);
  await press(desk, "nav-sessions", "Shift+Tab");

  await desk.row(id).waitFor();
  await press(desk, "session-why");
  await desk.at("why").waitFor();
  await leave(desk, desk.at("why"), "session-why");
  await press(desk, "session-end");
  await desk.at("confirm-no").waitFor();
  await leave(desk, desk.page.locator("dialog"), "session-end");
  await press(desk, "session-end");
  await press(desk, "confirm-no");
  await focused(desk, "session-end");
  await press(desk, "session-end");
  await press(desk, "confirm-yes");
  await gateway.listed(id, "closed");

  await press(desk, "nav-new", "Shift+Tab");
  await desk.at("target-add").waitFor();
  await press(desk, "target-add");
  await leave(desk, desk.at("target-form"), "target-add");
  await press(desk, "target-add");
  await fill(desk, "target-name", "shop-db");
  await fill(desk, "target-host", "127.0.0.1");
  await fill(desk, "target-username", "deploy");
  await fill(desk, "target-tags", "prod");
  await press(desk, "target-save");
  await desk.at("target-shop-db").waitFor();
  await focused(desk, "target-add");
  await press(desk, "target-shop-db");
  await focused(desk, "typed-name");
  await leave(desk, desk.at("typed-confirm"), "target-shop-db");
  await press(desk, "test-shop-db");
  await desk.at("trial-connect").waitFor();
  await leave(desk, desk.at("trial"), "test-shop-db");

  await press(desk, "nav-people", "Shift+Tab");
  await desk.at("person-add").waitFor();
  await press(desk, "person-add");
  await leave(desk, desk.at("person-form"), "person-add");
  await press(desk, "person-add");
  await fill(desk, "person-name", "ada");
  await desk.tabTo("person-invites");
  await keyboard.press("Space");
  await press(desk, "person-save");
  await desk.page.getByRole("dialog", { name: "A link for ada" }).waitFor();
  await focused(desk, "link");
  await press(desk, "link-done");
  await desk.page.locator('[data-testid=person-row][data-name="ada"]').waitFor();
  await focused(desk, "person-add");
  await press(desk, "person-password");
  await press(desk, "reset-link");
  await desk.page.getByRole("dialog", { name: "A link for ada" }).waitFor();
  await focused(desk, "link");
  await press(desk, "link-done");
  await press(desk, "sign-out", "Shift+Tab");
  await focused(desk, "signin-name");
});

promise("a question about a host is answered by keys alone, and nothing below it takes the focus", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const gateway = await lab.serve("targets_adhoc: true\ntargets_allow: [127.0.0.0/8]\n");
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signIn(gateway.token);
  await desk.at("quick-connect").waitFor();
  await desk.tabTo("quick-connect");
  await desk.page.keyboard.type(sshd.destination);
  await desk.page.keyboard.press("Enter");
  // The safe answer first: Enter, perhaps still held, must not be trust.
  await focused(desk, "prompt-no");
  await press(desk, "prompt-yes");
  await focused(desk, "prompt-field-0");
  await desk.page.keyboard.type(sshd.password);
  await desk.page.keyboard.press("Enter");
  await desk.stands("active");
  await desk.page.keyboard.type("echo $((6*7))");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^42$/m);
});

promise("a terminal that is refused leads to the button that tries again, and that into the terminal", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const { keyboard } = desk.page;
  await desk.at("target-playground").waitFor();
  await press(desk, "target-playground");
  await desk.reads(/^Pulsegate playground$/m);
  let refusals = 0;
  await desk.page.routeWebSocket(/\/terminal$/, (socket) => {
    refusals += 1;
    if (refusals > 2) socket.connectToServer();
    else void socket.close({ code: 4429 });
  });
  await desk.page.reload();
  for (const times of [1, 2]) {
    await until(`refusal ${times}`, async () => refusals === times && (await desk.focus()).id === "try-again");
    await keyboard.press("Enter");
  }
  await desk.stands("active");
  await keyboard.type("echo admitted");
  await keyboard.press("Enter");
  await desk.reads(/^admitted$/m);
});

promise("a terminal is searched by a button that one sees, on a phone too, and Escape leads back into it", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const { keyboard } = desk.page;
  await desk.at("target-playground").waitFor();
  await press(desk, "target-playground");
  await desk.reads(/^Pulsegate playground$/m);
  for (const width of [1280, 390]) {
    await desk.page.setViewportSize({ width, height: 700 });
    await keyboard.press("Control+Shift+ArrowUp");
    await press(desk, "tab-find");
    await focused(desk, "search-input");
    await keyboard.type("Pulsegate play");
    await until("what is found to be counted", async () => /^\d+ of \d+$/.test(await desk.page.locator("[role=search] [role=status]").innerText()));
    // From any element of the search.
    await keyboard.press("Tab");
    await keyboard.press("Escape");
    await desk.at("search-input").waitFor({ state: "detached" });
    await until("the focus back in the terminal", async () => /xterm-helper-textarea/.test((await desk.focus()).tag));
  }
  await keyboard.type("echo back");
  await keyboard.press("Enter");
  await desk.reads(/^back$/m);
});

promise("the page sends requests only to its gateway", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  const asked = [];
  browser.context.on("request", (request) => asked.push(request.url()));
  browser.context.on("page", (page) => page.on("websocket", (socket) => asked.push(socket.url())));
  const desk = await lab.follow(gateway, browser);
  const id = await desk.openPlayground();
  await desk.ask("colours", /struck\n/);
  for (const view of ["new", "sessions", "people", "account", "audit", "host-keys", `r/${id}`]) {
    await desk.page.goto(`${gateway.origin}/#/${view}`);
    await desk.page.locator("h1:visible, section:visible").first().waitFor();
  }
  await desk.page.goto(`${gateway.origin}/api/docs`);
  await desk.page.locator("h1").first().waitFor();
  const { host } = new URL(gateway.origin);
  assert.ok(asked.some((url) => url.startsWith("ws:")) && asked.length > 20, `${asked.length} requests`);
  assert.deepEqual(asked.filter((url) => new URL(url).host !== host && !url.startsWith("data:")), []);
});
