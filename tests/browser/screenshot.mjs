// Takes the pictures of the README from the product itself, after a few minutes of use: a terminal, the list of sessions
// with the evidence behind one, the targets and the people who may open them, the shell of a user who no longer may, a
// host key that has changed, and a request for control.
// Run as: PULSEGATE=target/release/pulsegate node tests/browser/screenshot.mjs docs
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Browser } from "./support/browser.mjs";
import { Desk } from "./support/desk.mjs";
import { Gateway } from "./support/gateway.mjs";
import { Sshd } from "./support/sshd.mjs";
import { until } from "./support/until.mjs";

/** Age of the oldest session in the pictures, in milliseconds. */
const AGE_MS = Number(process.env.AGE_MS ?? 100_000);

const folder = resolve(process.argv[2] ?? "docs");
const scratch = mkdtempSync(join(tmpdir(), "pulsegate-screenshot-"));
// As seen from the folder that the gateway runs in.
process.env.PULSEGATE = resolve(process.env.PULSEGATE);
const gateway = Gateway.demo(scratch, { "session.reattach_window": "10m" });
const [browser, hers, theirs] = [new Browser(), new Browser(), new Browser()];
try {
  await gateway.start();
  await browser.start(scratch, ["--force-dark-mode"]);
  const desk = new Desk(await browser.open(gateway.link));
  await desk.page.setViewportSize({ width: 1280, height: 800 });
  const oldest = await live(desk);
  await desk.page.screenshot({ path: join(folder, "screenshot.png") });
  await desk.at("nav-sessions").click();
  await desk.row(oldest).getByTestId("session-why").click();
  await desk.at("why").locator("dl").first().waitFor();
  await desk.page.screenshot({ path: join(folder, "sessions.png") });
  await desk.page.keyboard.press("Escape");
  await targets(desk);
  await people(desk);
  await control(desk);
  await hostKeys(desk);
} finally {
  await browser.stop();
  await hers.stop();
  await theirs.stop();
  await gateway.stop();
  await until("the folder to go", () => rmSync(scratch, { recursive: true, force: true }) ?? true);
}

/** Adds a few targets, as an administrator sees them. */
async function targets(desk) {
  const password = { kind: "password", password: "correct horse battery" };
  const all = [
    { name: "shop-web-1", host: "web-1.shop.example", group: "Shop", tags: ["web", "prod"], auth: password },
    { name: "shop-web-2", host: "web-2.shop.example", group: "Shop", tags: ["web", "prod"], auth: password },
    { name: "shop-db", host: "db.shop.example", group: "Shop", tags: ["db", "prod"], auth: { kind: "agent" } },
    { name: "build", host: "192.0.2.17", group: "Workshop", tags: ["lab"] },
    { name: "lab-router", host: "192.0.2.1", port: 2222, group: "Workshop", tags: ["lab"] },
  ];
  for (const target of all) await gateway.change("POST", "/targets", { username: "deploy", ...target });
  await desk.page.reload();
  await desk.at("nav-new").click();
  await desk.at("target-build").waitFor();
  await desk.at("change-shop-db").click();
  await desk.at("target-form").waitFor();
  await desk.page.screenshot({ path: join(folder, "targets.png") });
  await desk.page.keyboard.press("Escape");
}

/** Adds a few people, and takes the shell of one of them away again. */
async function people(desk) {
  const users = [
    { name: "ada", role: "user", grants: ["playground", "tag:web"] },
    { name: "grace", role: "operator", grants: ["*"] },
    { name: "vera", role: "auditor", grants: [] },
  ];
  for (const user of users) await gateway.change("POST", "/users", { ...user, password: "correct horse battery" });
  await hers.start(mkdtempSync(join(scratch, "ada-")), ["--force-dark-mode"]);
  const ada = new Desk(await hers.open(gateway.origin));
  await ada.page.setViewportSize({ width: 1280, height: 800 });
  await ada.signInAs("ada", "correct horse battery");
  await ada.openPlayground();
  await ada.ask("echo Hello from ada", /^Hello from ada$/m);
  await desk.at("nav-people").click();
  await desk.page.locator('[data-testid=person-row][data-name="ada"]').waitFor();
  await desk.page.screenshot({ path: join(folder, "people.png") });
  await gateway.change("PATCH", "/users/ada", { grants: [] });
  await ada.ending();
  await ada.page.screenshot({ path: join(folder, "revoked.png") });
}

/** Makes a watcher ask for control. */
async function control(desk) {
  await desk.at("nav-new").click();
  const id = await desk.openPlayground();
  await desk.ask("colours", /struck\n/);
  await theirs.start(mkdtempSync(join(scratch, "grace-")), ["--force-dark-mode"]);
  const grace = new Desk(await theirs.open(gateway.origin));
  await grace.signInAs("grace", "correct horse battery");
  await grace.at("nav-sessions").click();
  await grace.row(id).getByTestId("session-watch").click();
  await grace.at("control-ask").click();
  await desk.at("control-request").waitFor();
  await desk.page.screenshot({ path: join(folder, "control.png") });
}

/** Opens a host twice, the second time with another key. */
async function hostKeys(desk) {
  const sshd = await Sshd.start(mkdtempSync(join(scratch, "sshd-")), { login: "key" });
  try {
    const meet = async () => {
      await desk.at("nav-new").click();
      await desk.quickConnect(sshd.destination);
    };
    await meet();
    await desk.trustHostKey();
    // The sign-in fails, since the gateway lacks the user's key; the host key is trusted all the same.
    await desk.ending();
    sshd.renewHostKey();
    await meet();
    await desk.ending();
    await desk.at("closed-review").click();
    await desk.at("waiting-key").waitFor();
    await desk.page.screenshot({ path: join(folder, "hostkeys.png") });
  } finally {
    await sshd.stop();
  }
}

/** Leaves sessions of several kinds behind, and a terminal with colours in front; returns the oldest. */
async function live(desk) {
  const open = async () => {
    await desk.at("nav-new").click();
    return desk.openPlayground();
  };
  const leave = async (line) => {
    await open();
    await desk.type(line);
    await desk.ending();
    await desk.at("closed-close").click();
  };
  const oldest = await open();
  await desk.ask("title nightly build", /nightly build/);
  await desk.ask("clock", /^tick 2$/m);
  await leave("exit 3");
  await leave("drop");
  await desk.at("nav-new").click();
  await desk.quickConnect("deploy@localhost:1");
  await desk.ending();
  await desk.at("closed-close").click();
  // A page that leaves without ending its shell, which waits for it.
  const other = new Desk(await browser.open(gateway.origin));
  await other.openPlayground();
  await other.ask("flood 2MB", /\$$/);
  const age = async () => Date.now() - Date.parse((await gateway.get(`/sessions/${oldest}`)).start_time);
  await until("some life to have gone by", async () => (await age()) > AGE_MS, 2 * AGE_MS);
  await other.page.close();
  await desk.page.bringToFront();
  await open();
  await desk.ask("colours", /struck\n/);
  await desk.ask("echo Reload this page: the same shell is still here.", /^Reload.*here\.$/m);
  await desk.ask("clock", /^tick 3$/m);
  return oldest;
}
