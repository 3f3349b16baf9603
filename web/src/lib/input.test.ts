// Tests the way of a large paste from the page to its socket.
import { expect, test } from "vitest";
import { InputBuffer, QUEUE_BYTES, UNACKNOWLEDGED_BYTES } from "./input";

/** A buffer that knows from the gateway where input starts. */
function started(): InputBuffer {
  const input = new InputBuffer();
  input.resume(0);
  return input;
}

test("a_paste_of_100_mib_leaves_whole_uncopied_and_never_beyond_the_window", () => {
  const [input, paste] = [started(), new Uint8Array(100 * 1024 * 1024)];
  expect(input.push(paste)).toBe(true);
  let [sent, taken, astray] = [0, 0, 0];
  while (taken < paste.length) {
    for (let frame = input.next(); frame !== null; frame = input.next()) {
      if (frame.buffer !== paste.buffer || frame.byteOffset !== sent) astray += 1;
      sent += frame.length;
      if (sent - taken > UNACKNOWLEDGED_BYTES) astray += 1;
    }
    // Not where a frame ends.
    taken = Math.min(sent, taken + 30_000);
    input.take(taken);
  }
  expect([sent, astray]).toEqual([paste.length, 0]);
});

test("input_without_room_is_refused_whole_until_there_is_some", () => {
  const input = started();
  expect(input.push(new Uint8Array(QUEUE_BYTES - 1))).toBe(true);
  expect(input.push(new Uint8Array(2))).toBe(false);
  expect(input.push(new Uint8Array(1))).toBe(true);
  expect(input.push(new Uint8Array(1))).toBe(false);
  const sent = input.next()?.length ?? 0;
  input.take(sent);
  expect(input.push(new Uint8Array(sent))).toBe(true);
});
