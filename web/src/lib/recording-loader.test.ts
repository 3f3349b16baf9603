// Tests fetching a recording that is interrupted: over a network that comes back, and from a damaged file.
import { afterEach, expect, test, vi } from "vitest";
import { RecordingLoader } from "./recording-loader";

const HEADER = '{"version":2,"width":80,"height":24}\n';

/** One answer of the gateway: a text, and then its end or an interruption. */
const answer = (text: string, breaks: boolean) => () => {
  const left = text === "" ? [] : [new TextEncoder().encode(text)];
  const pull = (stream: ReadableStreamDefaultController) => {
    const piece = left.shift();
    if (piece !== undefined) stream.enqueue(piece);
    else if (breaks) stream.error(new TypeError("network error"));
    else stream.close();
  };
  return Promise.resolve(new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { status: 206 }));
};
const barren = answer("", true);
const silence = () => Promise.reject(new TypeError("failed to fetch"));

/** Fetches a new loader once per answer; returns the loader, the ranges asked for, and whether it was torn after each. */
async function tried(answers: (() => Promise<Response>)[]) {
  const [loader, signal] = [new RecordingLoader("s"), new AbortController().signal];
  const left = [...answers];
  const ranges: string[] = [];
  vi.stubGlobal("fetch", (_url: string, { headers }: { headers: { range: string } }) => {
    ranges.push(headers.range);
    return left.shift()?.();
  });
  const torn: boolean[] = [];
  for (const _ of answers) {
    await loader.fetch(signal, () => {}).catch((error: unknown) => expect(error).toMatchObject({ mayPass: true }));
    torn.push(loader.isTorn);
  }
  return { loader, ranges, torn };
}
afterEach(() => vi.unstubAllGlobals());

test("a_recording_that_breaks_off_at_one_byte_five_times_is_torn_there", async () => {
  const { loader, ranges, torn } = await tried([answer(HEADER, true), barren, barren, barren, barren, barren]);
  expect(torn).toEqual([false, false, false, false, false, true]);
  expect([loader.isOver, loader.film.bytes, ranges.at(-1)]).toEqual([true, HEADER.length, `bytes=${HEADER.length}-`]);
});

test.each([
  ["a_byte_more", answer(HEADER, true)],
  ["a_whole_answer", answer("", false)],
])("%s_in_between_is_a_sign_that_it_can_be_read", async (_what, sign) => {
  const four = [barren, barren, barren, barren];
  expect((await tried([...four, sign, ...four])).torn).not.toContain(true);
});

test("a_gateway_that_does_not_answer_says_nothing_of_the_recording", async () => {
  expect((await tried(Array.from({ length: 20 }, () => silence))).torn).not.toContain(true);
});
