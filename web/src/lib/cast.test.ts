// Tests the replay: the film as it was recorded, found by its text, and after every jump the same screen as after playing.
import { describe, expect, it, vi } from "vitest";
import { Film, type CastEvent } from "./cast";
import { Player, type Stage } from "./player";

const HEADER = '{"version":2,"width":80,"height":24,"timestamp":1,"title":"ada on web-1"}\n';

/** Feeds a film byte by byte or whole. */
function film(lines: string, piece = Infinity): Film {
  const [made, bytes] = [new Film(), new TextEncoder().encode(HEADER + lines)];
  for (let at = 0; at < bytes.length; at += piece) made.feed(bytes.subarray(at, at + piece));
  return made;
}

/** Returns every event of a film. */
async function all(film: Film): Promise<CastEvent[]> {
  const events: CastEvent[] = [];
  while (events.length < film.count) events.push(...(await film.read(events.length, film.count)));
  return events;
}

const event = (at: number, code: string, text: string) => `${JSON.stringify([at, code, text])}\n`;

/** A stage that keeps the text it received, and its size. */
class Paper implements Stage {
  text = "";
  size = "";
  written = 0;
  async write(text: string) {
    this.text += text;
    this.written += text.length;
  }
  resize(cols: number, rows: number) {
    this.size = `${cols}x${rows}`;
  }
  reset() {
    this.text = "";
  }
  snapshot() {
    return this.text;
  }
}

describe("a film", () => {
  const lines = event(1, "o", "grüße \x1b[1m€\x1b[m") + event(2, "h", "ab") + event(3, "r", "100x40") + event(4, "h", "end ab");

  it("opens with the first event that shows something", () => {
    const unseen = event(0.1, "o", "\x1b[2J\r\n") + event(0.2, "m", "a remark");
    expect(film(unseen + event(0.5, "o", "\x1b[1m$") + event(2, "o", "ls")).opening).toBe(0.5);
    expect(film(unseen).opening).toBe(0);
  });

  it("is the same in pieces of any size, also within a character", async () => {
    for (const piece of [1, 2, 3, 7, Infinity]) {
      const made = film(lines, piece);
      const [events, { sealed, title, duration }] = [await all(made), made];
      expect([events.map(({ code }) => code).join(""), events[0]?.text, sealed, title, duration]).toEqual([
        "or",
        "grüße \x1b[1m€\x1b[m",
        true,
        "ada on web-1",
        3,
      ]);
    }
  });

  it("waits for a line that is not whole", async () => {
    const torn = film(event(1, "o", "a") + '[2,"o","b');
    expect([torn.count, torn.sealed]).toEqual([1, false]);
    torn.feed(new TextEncoder().encode('c"]\n'));
    expect((await all(torn))[1]?.text).toBe("bc");
  });

  it("finds a text that was typed key by key, under colours, in letters of either case", async () => {
    const keys = [..."make Test"].map((key, at) => event(at, "o", key)).join("");
    const made = film(keys + event(20, "o", "\r\n\x1b[31mer\x1b[0mror: no rule\r\n"));
    expect(await made.search("make test")).toEqual([{ at: 8, line: "make Test" }]);
    expect(await made.search("ERROR")).toEqual([{ at: 20, line: "error: no rule" }]);
    expect(await made.search("31m")).toEqual([]);
    expect(await made.search("")).toEqual([]);
  });

  it("keeps most of a long recording in blobs, and reads it from there", async () => {
    const text = (at: number) => `${at}:é${"x".repeat(10_000)}\n`;
    const made = film(Array.from({ length: 1_000 }, (_, at) => event(at, "o", text(at))).join(""), 60_000);
    const kept = vi.spyOn(Blob.prototype, "text");
    expect((await all(made)).map(({ text }) => text).join("") === Array.from({ length: 1_000 }, (_, at) => text(at)).join("")).toBe(true);
    expect(kept).toHaveBeenCalledTimes(9);
    expect(await made.read(3, 5)).toEqual([3, 4].map((at) => ({ at, code: "o", text: text(at) })));
    expect((await made.search("777:é")).map(({ at }) => at)).toEqual([777]);
    expect([made.timeOf(500), made.timeOf(1_000)]).toEqual([500, undefined]);
    kept.mockRestore();
  });
});

describe("a player", () => {
  const long = Array.from({ length: 400 }, (_, at) => event(at, "o", `${at}:${"x".repeat(20_000)}\n`)).join("");
  const lines = long + event(400, "r", "132x50") + event(401, "o", "end");
  const made = film(lines);
  const short = `${lines.split("\n", 100).join("\n")}\n`;
  const events = lines.trimEnd().split("\n").map((line) => JSON.parse(line) as [number, string, string]);
  const shown = (at: number) => events.map(([when, code, text]) => (when <= at && code === "o" ? text : "")).join("");

  it("shows the same after any jumps as after playing, by keyframes", async () => {
    const paper = new Paper();
    const player = new Player(made, paper);
    await player.index(new Paper(), () => false, async () => {});
    expect(player.keyframes).toBeGreaterThan(10);
    for (const at of [390, 3, 200, 199, 400.5, 0, 401]) {
      await player.jump(at);
      expect(paper.text === shown(at)).toBe(true);
    }
    expect(paper.size).toBe("132x50");
    paper.written = 0;
    await player.jump(300);
    // A keyframe and at most what stands between two; without any it would be as much again.
    expect(paper.written).toBeLessThan(shown(300).length + 300_000);
  });

  it("draws nothing of what a jump passes over while it plays, nor of what was to be played before it", async () => {
    const paper = new Paper();
    const player = new Player(made, paper);
    await player.index(new Paper(), () => false, async () => {});
    player.skipIdle = false;
    player.advance(1);
    void player.jump(200);
    player.advance(1);
    const last = player.jump(390);
    player.advance(1);
    await last;
    await player.jump(player.at);
    expect(player.at).toBe(391);
    expect(paper.text === shown(391)).toBe(true);
    expect(paper.written).toBeLessThan(shown(391).length + 300_000);
  });

  it("plays on from where a jump leads, also back and before it is there", async () => {
    const paper = new Paper();
    const player = new Player(made, paper);
    player.skipIdle = false;
    player.advance(100);
    void player.jump(3);
    player.advance(1);
    await vi.waitFor(() => expect(paper.text === shown(player.at)).toBe(true));
  });

  /** Makes a call while the next blob cannot be read. */
  async function torn(call: () => Promise<unknown>) {
    const text = vi.spyOn(Blob.prototype, "text").mockRejectedValueOnce(new Error("torn"));
    await expect(call()).rejects.toThrow("torn");
    text.mockRestore();
  }

  it.each([true, false])("leaves the screen until what a jump back leads to is read; with keyframes: %s", async (indexed) => {
    const paper = new Paper();
    const player = new Player(made, paper);
    if (indexed) await player.index(new Paper(), () => false, async () => {});
    for (const next of [() => player.jump(200), () => player.jump(399), () => player.advance(1)]) {
      await player.jump(390);
      await torn(() => player.jump(200));
      expect(paper.text === shown(390)).toBe(true);
      await next();
      expect(paper.text === shown(player.at)).toBe(true);
    }
  });

  it("reads again what could not be read, and draws nothing twice", async () => {
    const [again, paper] = [film(lines), new Paper()];
    const player = new Player(again, paper);
    const calls = [() => player.jump(200), () => player.advance(100), () => again.search("399:")];
    for (const call of calls) {
      await player.jump(3);
      await torn(call);
      await call();
      expect(paper.text === shown(player.at)).toBe(true);
    }
  });

  it("makes all keyframes, each once, in spite of a piece that cannot be read at first", async () => {
    const [again, paper] = [film(short), new Paper()];
    const [player, whole, pause] = [new Player(again, paper), new Player(film(short), new Paper()), vi.fn(async () => {})];
    await whole.index(new Paper(), () => false, pause);
    expect(pause).not.toHaveBeenCalled();
    const read = again.read.bind(again);
    const torn = vi.spyOn(again, "read").mockImplementation((from, to) => {
      if (from < 50) return read(from, to);
      torn.mockRestore();
      return Promise.reject(new Error("torn"));
    });
    await player.index(new Paper(), () => false, pause);
    expect(whole.keyframes).toBeGreaterThan(5);
    expect([player.keyframes, pause.mock.calls.length]).toEqual([whole.keyframes, 1]);
    await player.jump(99);
    expect(paper.text === shown(99)).toBe(true);
  });

  it("waits a few times for what an index cannot read, and goes on with the next call", async () => {
    const again = film(short);
    const [player, behind, pause] = [new Player(again, new Paper()), new Paper(), vi.fn(async () => {})];
    const torn = vi.spyOn(again, "read").mockRejectedValue(new Error("torn"));
    const index = () => player.index(behind, () => false, pause);
    await index();
    expect([player.keyframes, pause.mock.calls.length]).toEqual([0, 4]);
    // Called for every piece that arrives, it does not begin to wait anew.
    await index();
    expect(pause).toHaveBeenCalledTimes(4);
    torn.mockRestore();
    await index();
    expect(player.keyframes).toBeGreaterThan(5);
  });

  it("plays at its speed and skips what is idle", async () => {
    const paper = new Paper();
    const player = new Player(film(event(0, "o", "a") + event(100, "o", "b") + event(101, "o", "c")), paper);
    player.advance(0.1);
    expect(player.at).toBeCloseTo(99.5);
    player.advance(0.5);
    player.skipIdle = false;
    player.speed = 2;
    player.advance(0.2);
    expect([player.at, player.atEnd]).toEqual([100.9, false]);
    player.advance(9);
    await player.jump(101);
    expect([paper.text, player.atEnd]).toEqual(["abc", true]);
  });
});
