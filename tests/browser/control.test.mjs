// Tests control of a terminal that two users share: asked for, granted, taken back, and the right to watch withdrawn.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";

/** Adds maria, an operator who may open everything, and signs her in with a browser of her own. */
async function maria(lab, gateway, admin) {
  await admin.at("nav-people").click();
  await admin.at("person-add").click();
  await admin.at("person-name").fill("maria");
  await admin.at("person-role").selectOption("operator");
  await admin.at("new-password").fill(PASSWORD);
  await admin.at("grant").fill("*");
  await admin.at("grant-add").click();
  await admin.at("person-save").click();
  await admin.page.locator('[data-testid=person-row][data-name="maria"]').waitFor();
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signInAs("maria", PASSWORD);
  return desk;
}

/** Opens a shell of the owner's, and a page of maria's, who may watch it. */
async function shared(lab, settings) {
  const gateway = await lab.demo(settings);
  const owner = await lab.desk(gateway);
  const guest = await maria(lab, gateway, owner);
  await owner.at("nav-new").click();
  const id = await owner.openPlayground();
  return { gateway, owner, guest, id };
}

const focused = (desk) => desk.page.evaluate(() => document.activeElement?.dataset.testid ?? document.activeElement?.className ?? "");

promise("who looks on asks, is let type, and the owner takes it back; nobody's keys go astray", async (lab) => {
  const { gateway, owner, guest, id } = await shared(lab);
  await owner.ask("echo begun", /^begun$/m);
  await guest.page.setViewportSize({ width: 900, height: 500 });
  await guest.at("nav-sessions").click();
  await guest.row(id).getByTestId("session-watch").click();
  await guest.reads(/^begun$/m);
  // What a watcher types is not delivered.
  await guest.at("terminal").click();
  await guest.page.keyboard.type("never");
  await guest.at("control-ask").click();
  await until("the answer that it waits", async () => (await guest.at("control-answer").innerText()).includes("is asked to let you type"));

  // The owner types on while the request is open: the focus stays where it was, until a key leads to the request.
  await owner.at("control-request").waitFor();
  await owner.page.keyboard.type("echo un");
  await owner.isAccessible();
  await owner.page.keyboard.type("disturbed");
  await owner.page.keyboard.press("Enter");
  await owner.reads(/^undisturbed$/m);
  await owner.page.keyboard.press("Control+Shift+KeyG");
  await until("the focus on Allow", async () => (await focused(owner)) === "control-allow");
  await owner.page.keyboard.press("Escape");
  await until("the focus in the terminal", async () => (await focused(owner)).includes("xterm-helper-textarea"));
  await owner.page.keyboard.press("Control+Shift+KeyG");
  await owner.page.keyboard.press("Enter");

  await guest.at("control-return").waitFor();
  await until("who has control", async () => (await owner.at("control-standing").innerText()) === "maria has control.");
  assert.equal(await owner.at("watchers").count(), 0, "who has control does not just watch");
  await owner.isAccessible();
  await guest.isAccessible();
  const size = async (desk) => {
    await desk.type("size");
    return (await desk.reads(/^(\d+)×(\d+)$/m))[0];
  };
  const guests = await size(guest);
  await owner.reads(new RegExp(`^${guests}$`, "m"));
  await guest.ask("echo by-maria", /^by-maria$/m);
  await owner.reads(/^by-maria$/m);
  await owner.page.keyboard.type("never");

  await owner.at("control-back").click();
  await guest.at("control-ask").waitFor();
  assert.match(await guest.at("control-standing").innerText(), /took control back from maria\. You are watching\.$/);
  await owner.page.keyboard.type("echo mine-again");
  await owner.page.keyboard.press("Enter");
  await owner.reads(/^mine-again$/m);
  await guest.page.keyboard.type("never");
  await owner.ask("size", new RegExp(`^(?!${guests}$)\\d+×\\d+$`, "m"));
  await owner.ask("echo end", /^end$/m);
  assert.doesNotMatch(await owner.screen(), /never/);
  const answer = await owner.page.request.get(`${gateway.origin}/api/v1/sessions/${id}/why`);
  const details = (await answer.json()).history.map(({ detail }) => detail.split(":")[0]);
  assert.deepEqual(details.filter((word) => word.startsWith("control_")), ["control_requested", "control_granted", "control_returned"]);
});

promise("a watcher who is refused is shown that, and an operator takes control where the policy lets them", async (lab) => {
  for (const policy of ["request", "force"]) {
    const gateway = await lab.demo({ "session.take_over": policy });
    const owner = await lab.desk(gateway);
    const guest = await maria(lab, gateway, owner);
    await owner.at("nav-new").click();
    const id = await owner.openPlayground();
    await guest.at("nav-sessions").click();
    await guest.row(id).getByTestId("session-watch").click();
    if (policy === "request") {
      await guest.at("control-ask").click();
      await owner.at("control-refuse").click();
      await until("the refusal", async () => (await guest.at("control-answer").innerText()).endsWith("does not let you type."));
      await owner.ask("echo still-mine", /^still-mine$/m);
      continue;
    }
    await guest.at("control-take").click();
    await until("who has control", async () => (await owner.at("control-standing").innerText()) === "maria has control.");
    await guest.ask("echo taken", /^taken$/m);
    await guest.at("control-return").click();
    await owner.ask("echo given-back", /^given-back$/m);
  }
});

promise("who looks on at an idle shell is warned, has no say in it, and sees that its owner types again", async (lab) => {
  const { owner, guest, id } = await shared(lab, { "session.idle_timeout": "24s" });
  await owner.ask("echo begun", /^begun$/m);
  await guest.at("nav-sessions").click();
  await guest.row(id).getByTestId("session-watch").click();
  await guest.at("idle-warning").waitFor();
  await owner.at("stay").waitFor();
  assert.equal(await guest.at("stay").count(), 0);
  await owner.ask("echo again", /^again$/m);
  await guest.at("idle-warning").waitFor({ state: "detached" });
  await until("a title that asks for nothing", async () => !(await guest.page.title()).startsWith("("));
});

promise("a user who may no longer watch reads so in that terminal, and stays signed in until they are disabled", async (lab) => {
  const { gateway, owner, guest, id } = await shared(lab);
  await guest.at("nav-sessions").click();
  await guest.row(id).getByTestId("session-watch").click();
  await guest.stands("active");
  await gateway.change("PATCH", "/users/maria", { role: "user" });
  assert.match(await guest.ending(), /You may no longer look on: maria may no longer look on\./);
  await guest.at("nav-sessions").click();
  await guest.at("session-search").waitFor();
  // No terminal is open that could notify this page: it learns from its own requests.
  await gateway.change("PATCH", "/users/maria", { disabled: true });
  await guest.at("signed-out").waitFor();
});
