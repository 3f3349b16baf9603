// Owns what the gateway has said of one session, for the page of its terminal to show. Knows neither screens nor sockets.
import type { Waiting } from "./away";
import type { Control, ControlAnswer, ControlRequest, Prompt } from "./protocol";
import { bytes } from "./text";
import type { View } from "./view";

/** Time for which a message about lost input or output is shown: long enough to read. */
const LOSS_SHOWN_MS = 20_000;

/** The events of a connection that leave something to show. */
type Event = "prompt" | "idle" | "timeUp" | "cutOff" | "notice" | "unanswered" | "watchers" | "control" | "requests" | "answer" | "unsent" | "skipped" | "waiting";

/** What is said of a session. */
export class Said {
  prompt = $state.raw<Prompt | null>(null);
  /** Time at which the gateway closes the session for lack of input, in this page's clock. */
  idleUntil = $state<number | null>(null);
  /** Time at which it closes the session at its longest duration. */
  lastsUntil = $state<number | null>(null);
  /** Time at which it closes the session because it does not reach the session store. */
  cutOffUntil = $state<number | null>(null);
  notice = $state<string | null>(null);
  /** Whether the gateway does not answer, though the socket is attached. */
  unanswered = $state(false);
  /** The names of the watchers. */
  watchers = $state.raw<string[]>([]);
  /** Who has control, and who asks for it. */
  control = $state.raw<Control | null>(null);
  requests = $state.raw<ControlRequest[]>([]);
  answer = $state.raw<ControlAnswer | null>(null);
  /** The message about input that was not delivered; empty for none. */
  unsent = $state("");
  /** The message about output that is not kept; empty for none. */
  skipped = $state("");
  waiting = $state.raw<Waiting | null>(null);
  readonly #owns: boolean;
  #forgetting: ReturnType<typeof setTimeout> | undefined;
  #passing: ReturnType<typeof setTimeout> | undefined;

  /** `owns`: whether this is the owner's page. */
  constructor(owns: boolean) {
    this.#owns = owns;
  }

  readonly events: Pick<View, Event> = {
    prompt: (prompt) => (this.prompt = prompt),
    idle: (ms) => (this.idleUntil = ms === null ? null : performance.now() + ms),
    timeUp: (ms) => (this.lastsUntil = ms === null ? null : performance.now() + ms),
    cutOff: (ms) => (this.cutOffUntil = ms === null ? null : performance.now() + ms),
    notice: (message) => (this.notice = message),
    unanswered: (is) => (this.unanswered = is),
    watchers: (names) => (this.watchers = names),
    control: (control) => {
      if (control.turn !== this.control?.turn) [this.answer, this.unsent] = [null, ""];
      this.control = control;
    },
    requests: (requests) => (this.requests = requests),
    answer: (answer) => (this.answer = answer),
    unsent: (count) => {
      this.unsent = `${bytes(count)} of what you typed was not delivered: another page had control. Type it again once you have it.`;
      clearTimeout(this.#forgetting);
      this.#forgetting = setTimeout(() => (this.unsent = ""), LOSS_SHOWN_MS);
    },
    skipped: (count) => {
      this.skipped = `${bytes(count)} of output came while this page was away and is no longer kept, nor what stood above it. The screen is as it is now.`;
      clearTimeout(this.#passing);
      this.#passing = setTimeout(() => (this.skipped = ""), LOSS_SHOWN_MS);
    },
    waiting: (typed) => (this.waiting = typed),
  };

  /** Those who only watch: of who has control the page says that. */
  get lookers(): string[] {
    return this.watchers.filter((name) => name !== this.control?.name);
  }

  /** Whether another page sets the size of the terminal. */
  get isGiven(): boolean {
    return this.control?.typing === false;
  }

  /** Whether the gateway takes it from this page that somebody is there: the owner's, or that of who types. */
  get hasSay(): boolean {
    return this.#owns || this.control?.typing === true;
  }

  /** Whether something asks or warns the user, who may be at another tab: some of it waits for a minute only. */
  get needs(): boolean {
    const endsSoon = this.hasSay && (this.idleUntil !== null || this.lastsUntil !== null || this.cutOffUntil !== null);
    return this.prompt !== null || endsSoon || this.requests.length > 0 || this.waiting?.asked === true;
  }
}
