import { expect, test } from "vitest";
import { parseReturn } from "./provider";

test("the provider's parameters are read from one path only", () => {
  expect(parseReturn("/", "?state=s&code=c")).toBeNull();
  expect(parseReturn("/oidc/", "?state=s&code=c")).toBeNull();
  expect(parseReturn("/oidc", "?state=s&code=a%26b&session_state=x&iss=https%3A%2F%2Fid")).toEqual({
    state: "s",
    code: "a&b",
    iss: "https://id",
  });
  expect(parseReturn("/oidc", "?error=access_denied&error_description=x")).toEqual({ state: "", error: "access_denied" });
  expect(parseReturn("/oidc", "")).toEqual({ state: "" });
});
