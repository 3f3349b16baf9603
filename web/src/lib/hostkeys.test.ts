// Tests the name of a host that waits for review, which must be typed to trust a changed key, and where its key lies.
import { expect, test } from "vitest";
import { address, keyFile } from "./hostkeys";

test.each([
  ["web-1.example", 22, "web-1.example"],
  ["web-1.example", 2222, "web-1.example:2222"],
  ["2001:db8::1", 22, "2001:db8::1"],
  ["2001:db8::1", 2222, "[2001:db8::1]:2222"],
])("%s port %i is %s", (host, port, shown) => {
  expect(address({ host, port })).toBe(shown);
});

test.each([
  ["ssh-ed25519", "ed25519"],
  ["ecdsa-sha2-nistp256", "ecdsa"],
  ["ssh-rsa", "rsa"],
  ["ssh-dss", "*"],
])("a key of type %s lies in the file of %s", (type, kind) => {
  expect(keyFile(type)).toBe(`/etc/ssh/ssh_host_${kind}_key.pub`);
});
