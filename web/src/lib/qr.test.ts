// Tests that a phone reads the text back from the code.
import decodeQR from "qr/decode.js";
import { expect, test } from "vitest";
import { qrShape } from "./qr";

const URI = "otpauth://totp/Pulsegate:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Pulsegate";

/** Draws a shape as a camera would see it: eight pixels a module. */
function seen({ size, path }: ReturnType<typeof qrShape>) {
  const scale = 8;
  const side = size * scale;
  const data = new Uint8ClampedArray(side * side * 4).fill(255);
  for (const [, left, top] of path.matchAll(/M(\d+) (\d+)h1v1h-1z/g)) {
    for (let y = Number(top) * scale; y < (Number(top) + 1) * scale; y++) {
      const from = (y * side + Number(left) * scale) * 4;
      for (let x = 0; x < scale; x++) data.fill(0, from + x * 4, from + x * 4 + 3);
    }
  }
  return { width: side, height: side, data };
}

test("a_phone_reads_what_was_put_in", () => {
  expect(decodeQR(seen(qrShape(URI)))).toBe(URI);
});
