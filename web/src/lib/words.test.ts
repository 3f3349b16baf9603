// Tests the texts that users read and type: destinations, titles from untrusted targets, sentences for every ending.
import { describe, expect, test } from "vitest";
import { destinationOf, parseHandTyped } from "./destination";
import { ALL_END_REASONS, explainCloseCode, explainEnd, explainOwnEnd, explainWatchedEnd, keyWaits } from "./reasons";
import { CLOSE_CODES } from "./protocol";
import { bytes, duration, moment, plainTitle, timeOrMoment, TITLE_CHARACTERS } from "./text";

describe("destinations", () => {
  test.each([
    ["root@web", { username: "root", host: "web", port: 22 }],
    [" a.b@10.0.0.5:2222 ", { username: "a.b", host: "10.0.0.5", port: 2222 }],
    ["a@[fe80::1]:22", { username: "a", host: "fe80::1", port: 22 }],
  ])("%s is understood", (text, destination) => {
    expect(parseHandTyped(text)).toEqual({ destination });
  });

  test.each(["", "web", "@web", "a@", "a@b:0", "a@b:65536", "a@fe80::1", "a b@c", "a@b/c", "a@b:22x"])(
    "%j is refused with a sentence",
    (text) => {
      expect(parseHandTyped(text)).toMatchObject({ problem: expect.stringMatching(/\.$/) as string });
    },
  );

  const db1 = { username: "deploy", host: "db1", port: 2201 };
  test.each([
    ["ssh -p 2201 deploy@db1", db1],
    ["ssh -p2201 -l deploy db1", db1],
    ["ssh deploy@db1 -p 2201", db1],
    ["ssh -tt -v -o Port=2201 -oUser=deploy 'db1'", db1],
    ["ssh://deploy@db1:2201/", db1],
    ["ssh root@fe80::1", { username: "root", host: "fe80::1", port: 22 }],
    ["ssh -p 2201 -J web-1 deploy@db1", { ...db1, via: ["web-1"] }],
    ["ssh -o ProxyJump=web-1 -p 2201 deploy@db1", { ...db1, via: ["web-1"] }],
    ["ssh -p 2201 -J web-1,ops@10.0.0.9:2200 deploy@db1", { ...db1, via: ["web-1", "ops@10.0.0.9:2200"] }],
    ["ssh web-1", { target: "web-1" }],
    ["web-1", { target: "web-1" }],
  ])("%s is understood", (text, destination) => {
    expect(parseHandTyped(text, ["web-1"])).toEqual({ destination });
  });
  test.each([
    ["ssh -p 2201 -J bastion deploy@db1", /bastion is neither/],
    ["ssh -J web-1,bastion deploy@db1", /bastion is neither/],
    ["ssh -J web-1 web-1", /^web-1 is a target/],
    ["ssh deploy@db1 -J", /after -J/],
    ["ssh -o ProxyCommand=nc deploy@db1", /^Name the jump host with -J/],
    ["ssh -i ~/.ssh/id deploy@db1", /^A key file/],
    ["ssh -L 80:a:80 deploy@db1", /^Forwarded ports/],
    ["ssh -X deploy@db1", /^-X is not/],
    ["ssh -o StrictHostKeyChecking=no a@b", /^The setting StrictHostKeyChecking/],
    ["ssh -p deploy@db1", /after -p/],
    ["ssh -p 99999 deploy@db1", /out of range/],
    ["ssh -p22 web-2", /login name first/],
    ["ssh deploy@db1 uptime", /^Leave the command out/],
    ["ssh", /^Say where/],
  ])("%s is refused with what to do instead", (text, sentence) => {
    expect(parseHandTyped(text, ["web-1"])).toEqual({ problem: expect.stringMatching(sentence) as string });
  });
  test("a_session_leads_back_to_where_it_was", () => {
    expect(destinationOf("web-1")).toEqual({ target: "web-1" });
    expect(destinationOf("root@web:2222")).toEqual({ username: "root", host: "web", port: 2222 });
    const root = { username: "root", host: "web", port: 22 };
    expect(destinationOf("root@web:22 via web-1")).toEqual({ ...root, via: ["web-1"] });
    expect(destinationOf("root@web:22 via web-1, ops@j:22")).toEqual({ ...root, via: ["web-1", "ops@j:22"] });
  });
});

describe("text", () => {
  test("a_title_cannot_hide_or_reorder_what_surrounds_it", () => {
    expect(plainTitle("a\u202eb\u0007c\u200bd\u2066e\u009bf")).toBe("abcdef");
    expect([...plainTitle("😀".repeat(500))]).toHaveLength(TITLE_CHARACTERS);
  });

  test("sizes_and_durations_read_well", () => {
    expect([bytes(0), bytes(999), bytes(1_250_000)]).toEqual(["0 B", "999 B", "1.3 MB"]);
    expect([duration(900), duration(62_000), duration(7_500_000)]).toEqual(["0 s", "1 m 02 s", "2 h 05 m"]);
  });

  test("a_moment_of_another_day_has_its_date", () => {
    const [before, after] = [new Date(2026, 0, 1, 23, 59, 59), new Date(2026, 0, 2, 0, 0, 1)];
    const told = [before, after].map((then) => timeOrMoment(then.toISOString(), after.getTime()));
    expect(told).toEqual([moment(before.toISOString()), after.toLocaleTimeString()]);
  });
});

describe("sentences", () => {
  test("every_end_reason_has_its_own", () => {
    const sentences = ALL_END_REASONS.map((reason) => explainEnd(reason, null).sentence);
    expect(new Set(sentences).size).toBe(17);
  });

  test("a_reason_of_a_newer_gateway_still_reads_as_an_ending", () => {
    for (const reason of ["toString", "unheard_of", null]) expect(explainEnd(reason, null).sentence).toMatch(/over/);
  });

  test("an_owner_who_ended_their_session_from_another_page_is_not_sent_to_ask_anybody", () => {
    expect(explainOwnEnd("terminated", null, "ended by ann", "ann").sentence).toMatch(/^You ended/);
    expect(explainOwnEnd("terminated", null, "ended by bob", "ann").sentence).toMatch(/Ask them/);
    expect(explainOwnEnd("revoked", null, "ended by ann", "ann")).toMatchObject(explainEnd("revoked", null));
  });

  test.each([
    ["idle_timeout", null, "Nothing was typed for 60 s.", /^Nothing was typed for 60 s\. Reconnect when/, ""],
    ["max_duration", null, "The session reached its longest allowed time, 90 s.", /^The session .* 90 s\. Reconnect to/, ""],
    ["max_duration", null, "", /^The session reached its longest allowed duration\. Reconnect/, ""],
    ["node_lost", null, "This session has ended.", /^The gateway that ran/, ""],
    ["exited", 3, "Exit status 3.", /status 3\.$/, ""],
    ["exited", null, "Signal TERM.", /ended\.$/, "Signal TERM."],
    ["connect_failed", null, "Connection refused.", /^Could not connect/, "Connection refused."],
  ])("%s is said once", (reason, status, message, sentence, more) => {
    expect(explainOwnEnd(reason, status, message, "ann")).toMatchObject({ sentence: expect.stringMatching(sentence) as string, more });
  });

  test("a_key_that_waits_for_review_is_told_from_one_that_the_user_declined", () => {
    const changed = "The host key of [db]:22 has CHANGED. An operator compares the keys and decides under Host keys, where the new one waits.";
    const declined = "The host key of db, SHA256:x, is not known and was not accepted.";
    expect([changed, `At the jump host web: ${changed}`, declined, ""].map((message) => keyWaits("host_key_rejected", message))).toEqual([true, true, false, false]);
    expect(keyWaits("connect_failed", changed)).toBe(false);
  });

  test("a_watcher_is_not_told_to_reconnect", () => {
    for (const reason of ALL_END_REASONS) expect(explainWatchedEnd(reason, null, "").sentence).not.toMatch(/[Rr]econnect|You/);
  });

  test("every_close_code_has_its_own", () => {
    expect(new Set(Object.values(CLOSE_CODES).map((code) => explainCloseCode(code))).size).toBe(9);
  });
  test("a_user_who_may_no_longer_watch_reads_why", () => {
    const why = "You may no longer look on: maria was disabled.";
    expect(explainCloseCode(CLOSE_CODES.signIn, why)).toBe(why);
  });
});
