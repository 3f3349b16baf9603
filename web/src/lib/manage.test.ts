// Tests the valid values in the form of a target.
import { expect, test } from "vitest";
import { authProblem, placeProblem, targetNameProblem, wordsOf } from "./manage";

test("a_name_is_what_the_gateway_takes", () => {
  for (const name of ["web-1", "7", "A.b_c", "x".repeat(64)]) expect(targetNameProblem(name)).toBe("");
  for (const name of ["", "..", "-x", "a b", "a/b", "x".repeat(65)]) expect(targetNameProblem(name)).not.toBe("");
});

test("a_place_has_a_host_a_port_and_a_login_name", () => {
  const place = { host: "web-1", port: 22, username: "deploy" };
  expect(placeProblem(place)).toBe("");
  for (const wrong of [{ host: "" }, { host: "root@web" }, { port: 0 }, { port: 65_536 }, { port: NaN }, { username: "" }]) {
    expect(placeProblem({ ...place, ...wrong })).not.toBe("");
  }
});

test("a_credential_must_be_complete", () => {
  expect(authProblem({ kind: "prompt" })).toBe("");
  expect(authProblem({ kind: "password", password: "" })).not.toBe("");
  expect(authProblem({ kind: "private_key", private_key: "ssh-ed25519 AAAA" })).toMatch(/public/);
  expect(authProblem({ kind: "private_key", private_key: "x" })).not.toBe("");
  expect(authProblem({ kind: "private_key", private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n" })).toBe("");
});

test("words_stand_between_commas_and_blanks_and_count_once", () => {
  expect(wordsOf(" prod,web  prod ,")).toEqual(["prod", "web"]);
  expect(wordsOf("")).toEqual([]);
});
