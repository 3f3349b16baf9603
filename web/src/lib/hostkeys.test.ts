// Tests the name of a host that waits for review: it must be typed to trust a changed key.
import { expect, test } from "vitest";
import { address } from "./hostkeys";

test.each([
  ["web-1.example", 22, "web-1.example"],
  ["web-1.example", 2222, "web-1.example:2222"],
  ["2001:db8::1", 22, "2001:db8::1"],
  ["2001:db8::1", 2222, "[2001:db8::1]:2222"],
])("%s port %i is %s", (host, port, shown) => {
  expect(address({ host, port })).toBe(shown);
});
