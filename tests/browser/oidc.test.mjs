// Tests signing in with a provider as a browser does it: there, back across two sites, and signed in.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** The configuration with which the provider signs users in. */
const signsIn = (provider) => `sign_in:
  oidc:
    issuer: ${provider.issuer}
    name: Example ID
    client_id: ${provider.client}
    client_secret: ${provider.secret}
    roles: [{ group: ops, role: operator }]
`;

promise("a person goes to the provider and comes back signed in, or with a sentence", async (lab) => {
  const provider = await lab.provider();
  provider.person = { sub: "1", preferred_username: "ada", groups: ["ops"] };
  const gateway = await lab.serve(signsIn(provider));
  const browser = await lab.browser();
  const desk = new Desk(await browser.open(`${gateway.origin}/#/host-keys`));
  const { page } = desk;
  const leave = async (link) => {
    await desk.at("signin-provider").click();
    await page.getByRole("link", { name: link }).click();
  };
  await until("the button", async () => (await desk.at("signin-provider").innerText()) === "Sign in with Example ID");
  await desk.isAccessible();

  await desk.at("signin-provider").click();
  await page.getByRole("link", { name: "Go on" }).waitFor();
  // The browser shows the page as it was left, without loading it.
  await page.goBack({ waitUntil: "commit" });
  await until("the button to lead there again", () => desk.at("signin-provider").isEnabled());
  await leave("Decline");
  await until("the sentence", async () => (await desk.at("signin-refusal").innerText()).includes("Example ID did not sign you in: you declined"));
  assert.equal(page.url(), `${gateway.origin}/#/host-keys`, "nothing of the answer is left in the address");

  await leave("Go on");
  await desk.at("nav-account").waitFor();
  assert.equal(page.url(), `${gateway.origin}/#/host-keys`, "the view that was asked for");
  const cookies = await browser.context.cookies(gateway.origin);
  const { httpOnly, sameSite } = cookies.find(({ name }) => name === "pulsegate");
  assert.deepEqual({ httpOnly, sameSite }, { httpOnly: true, sameSite: "Strict" });
  await desk.at("nav-account").click();
  await until("who one is", async () => (await page.locator(".who").innerText()).startsWith("ada, operator"));
  assert.equal(await desk.at("totp-begin").count(), 0);
  assert.match(await desk.at("no-password").innerText(), /your organisation's provider/);

  // The provider's return address a second time: it signs nobody in, and nobody out.
  await page.goto(`${gateway.origin}/oidc?code=used&state=used`);
  await desk.at("nav-account").waitFor();
  const stranger = new Desk(await (await lab.browser()).open(`${gateway.origin}/oidc?code=used&state=used`));
  await until("the refusal", async () => (await stranger.at("signin-refusal").innerText()).includes("not under way here"));

  // In none of the groups any more; the other ways to sign in still work.
  provider.person = { sub: "1", preferred_username: "ada", groups: [] };
  await stranger.at("signin-provider").click();
  await stranger.page.getByRole("link", { name: "Go on" }).click();
  await until("the sentence", async () => (await stranger.at("signin-refusal").innerText()).includes("none of the groups"));
  await page.reload();
  await desk.at("signin-provider").waitFor();
  await stranger.signIn(gateway.token);
  await stranger.at("nav-people").click();
  await stranger.at("person-provider").waitFor();
  assert.equal(await stranger.at("person-password").count(), 0);

  // What was said of an earlier sign-in is not said of this one's end.
  await stranger.at("nav-account").click();
  await stranger.at("sign-out-everywhere").click();
  await stranger.at("confirm-yes").click();
  await stranger.at("signed-out").waitFor();
});

promise("who signs out goes on to the provider where that is configured, and comes back to the page", async (lab) => {
  const provider = await lab.provider();
  provider.person = { sub: "1", preferred_username: "ada", groups: ["ops"] };
  const gateway = await lab.serve(`${signsIn(provider)}    sign_out_at_provider: true\n`);
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.at("signin-provider").click();
  await desk.page.getByRole("link", { name: "Go on" }).click();
  await desk.at("sign-out").click();
  await desk.page.getByRole("link", { name: "Signed out" }).click();
  await desk.at("signin-provider").waitFor();
  assert.equal(new URL(desk.page.url()).origin, gateway.origin);
});
