// Tests the checks of names, passwords and grants before the gateway is asked, and the content of an export.
import { describe, expect, test } from "vitest";
import { csv, jsonLines } from "./export";
import { changesOf, generatePassword, grantProblem, nameProblem, passwordProblem, type Entry, type User } from "./people";

const ENTRY: Entry = {
  seq: 7,
  at: "2026-01-02T03:04:05Z",
  actor: "ann",
  client_ip: null,
  action: "sign_in",
  subject: null,
  outcome: "refused",
  detail: "",
};

describe("an export", () => {
  test.each(["=1+1", "+1", "-1", "@a", "\t=1", "\r=1"])("%j is no formula", (subject) => {
    const cell = csv([{ ...ENTRY, subject }]).split("\r\n").slice(1).join("\r\n").split(",")[5];
    expect(cell?.replace(/^"/, "").startsWith("'")).toBe(true);
  });

  test("keeps_quotes_commas_and_lines_in_their_cell", () => {
    const line = '7,2026-01-02T03:04:05Z,ann,,sign_in,"a ""b"", c\nd",refused,\r\n';
    expect(csv([{ ...ENTRY, subject: 'a "b", c\nd' }])).toBe(`seq,at,actor,client_ip,action,subject,outcome,detail\r\n${line}`);
  });

  test("is_one_object_a_line_for_programs", () => {
    const lines = jsonLines([ENTRY, { ...ENTRY, seq: 6, detail: { a: "b\n" } }]).trimEnd().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as Entry).seq)).toEqual([7, 6]);
  });
});

describe("people", () => {
  test.each(["ann", "ann.b@example.com", "9-x", "a".repeat(64)])("%s is a name", (name) => {
    expect(nameProblem(name)).toBe("");
  });
  test.each(["", "Ann", "-a", "a b", "a/b", "a".repeat(65), "admin"])("%j is no name, and a sentence says why", (name) => {
    expect(nameProblem(name)).toMatch(/\.$/);
  });
  test.each(["web-1", "tag:prod", "*", "adhoc:*"])("%s is a grant", (grant) => {
    expect(grantProblem(grant)).toBe("");
  });
  test.each(["", "tag:", "a b", "web-*"])("%j is no grant, and a sentence says why", (grant) => {
    expect(grantProblem(grant)).toMatch(/\.$/);
  });

  test("a_change_names_only_what_is_different_so_that_nothing_withdrawn_meanwhile_is_brought_back", () => {
    const user = { role: "user", grants: ["web-1", "tag:test"] } as User;
    expect(changesOf(user, { role: "operator", grants: ["web-1", "tag:test"] })).toEqual({ role: "operator" });
    expect(changesOf(user, { role: "user", grants: ["web-1"] })).toEqual({ grants: ["web-1"] });
    expect(changesOf(user, { role: "user", grants: ["web-1", "tag:prod"] })).toEqual({ grants: ["web-1", "tag:prod"] });
  });

  test("a_password_is_counted_in_characters_and_not_in_bytes", () => {
    expect(passwordProblem("😀".repeat(11))).toMatch(/at least 12/);
    expect([passwordProblem("😀".repeat(12)), passwordProblem("a".repeat(1024))]).toEqual(["", ""]);
    expect(passwordProblem("a".repeat(1025))).toMatch(/at most/);
  });

  test("generated_passwords_are_long_enough_and_never_alike", () => {
    const made = Array.from({ length: 100 }, generatePassword);
    expect(new Set(made).size).toBe(100);
    for (const password of made) expect(password).toMatch(/^[a-zA-Z2-9]{20}$/);
  });
});
