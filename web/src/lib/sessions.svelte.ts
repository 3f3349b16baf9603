// Owns the list of sessions on the page and keeps it live: a page of the listing, corrected by every event.
import * as api from "./api";
import { Latest } from "./latest";
import type { Node, Session, Status } from "./protocol";
import { takeSeat } from "./seats";

/** Interval of refetching in any case, as a safety net under the event stream. */
const REFETCH_MS = 10_000;
/** Interval of refetching what no event reports: sessions of other gateways, and all of them on a page without a
 *  stream. */
const REFETCH_UNTOLD_MS = 1_000;
/** Delay before a refetch, so that a burst of events costs one. */
const SETTLE_MS = 250;
/** The largest page of the listing. */
export const LARGEST_PAGE = 500;

/** Whether a session as `a` tells it is later than as `b` does. A close stays, whatever the versions: another gateway
 *  may have concluded it without the last ones. */
function isLater(a: Session, b: Session): boolean {
  const [over, otherOver] = [a.status === "closed", b.status === "closed"];
  return over === otherOver ? a.version > b.version : over;
}

/** The sessions that match the filters, newest first. */
export class LiveSessions {
  items = $state<Session[]>([]);
  asOf = $state<string | null>(null);
  degraded = $state<string[]>([]);
  more = $state(false);
  /** The error of the last fetch; `null` once one succeeds. */
  error = $state<unknown>(null);
  loaded = $state(false);
  /** Whether `items` are only those of a status or a search: the filters may be others by now. */
  filtered = $state(false);
  status = $state<Status[]>([]);
  search = $state("");
  limit = $state(100);
  /** The gateways that share the list; this one first. */
  nodes = $state<Node[]>([]);
  /** Whether they are asked for just now. */
  #looksAround = false;
  /** The last session whose end was asked for here and failed, and the error. */
  #unended = $state.raw<{ session: Session; error: unknown } | null>(null);

  #stream: EventSource | null = null;
  /** Gives back the seat of the stream. */
  #leave: (() => void) | null = null;
  /** Times that `#hush()` was called: a seat that was asked for before the last one is no longer wanted. */
  #hushed = 0;
  #settle: ReturnType<typeof setTimeout> | undefined;
  readonly #list = new Latest();

  /** Follows the sessions while the page is visible; the returned function stops that. */
  follow(): () => void {
    const look = () => {
      if (document.visibilityState !== "visible") return this.#hush();
      void this.#listen();
      void this.#lookAround();
    };
    look();
    document.addEventListener("visibilitychange", look);
    const net = setInterval(() => {
      if (document.visibilityState !== "visible") return;
      // A seat may be free by now.
      if (!this.#isTold) void this.#listen();
      void this.#lookAround();
      if (!this.#list.underWay) void this.refetch();
    }, REFETCH_MS);
    const untold = setInterval(() => {
      const some = this.nodes.length > 1 || !this.#isTold;
      if (some && document.visibilityState === "visible" && !this.#list.underWay) void this.refetch();
    }, REFETCH_UNTOLD_MS);
    return () => {
      document.removeEventListener("visibilitychange", look);
      clearInterval(net);
      clearInterval(untold);
      this.#hush();
      this.#list.drop();
    };
  }

  /** Fetches the list with the current filters; an answer to an older request is dropped. */
  refetch(): Promise<void> {
    // This fetch brings what a scheduled one would have brought.
    clearTimeout(this.#settle);
    this.#settle = undefined;
    const query = { status: this.status, q: this.search.trim(), limit: this.limit };
    return this.#list.ask(
      () => api.sessions(query),
      (page) => {
        this.#show(page);
        this.filtered = query.status.length > 0 || query.q !== "";
      },
      (error) => (this.error = error),
    );
  }

  /** Fetches soon what the user asked for, ahead of an answer under way; calls in between count once. */
  refetchSoon(): void {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => void this.refetch(), SETTLE_MS);
  }

  /** Ends a session; see `unended` for a failure. */
  async end(session: Session): Promise<void> {
    this.#unended = null;
    try {
      await api.endSession(session.id);
      this.refetchSoon();
    } catch (error) {
      this.#unended = { session, error };
    }
  }

  /**
   * The last session that could not be ended from here, and the error, until the list shows it closed: one that the
   * list's filter leaves out may still run.
   */
  get unended(): { session: Session; error: unknown } | null {
    const id = this.#unended?.session.id;
    return this.items.some((item) => item.id === id && item.status === "closed") ? null : this.#unended;
  }

  /** Forgets a failure to end a session. */
  dismiss(): void {
    this.#unended = null;
  }

  /** Whether neither store answers or is up to date: then nothing can be heard of other gateways either. */
  get isCutOff(): boolean {
    return this.degraded.includes("records") && this.degraded.includes("live");
  }

  /** The gateways that do not answer, as far as this one can tell. */
  get silent(): string[] {
    if (this.isCutOff) return [];
    return this.nodes.filter((node) => node.standing === "lost").map((node) => node.id);
  }

  /** Whether another gateway serves a session, so that it can be listed and ended but not opened from here. */
  isElsewhere(session: Session): boolean {
    const own = this.nodes.find((node) => node.own);
    return own !== undefined && session.node !== own.id;
  }

  /** Whether events come, or the browser asks for them by itself; it does not once the gateway refused a stream. */
  get #isTold(): boolean {
    return this.#stream !== null && this.#stream.readyState !== EventSource.CLOSED;
  }

  #show(page: api.SessionPage): void {
    const known = new Map(this.items.map((item) => [item.id, item]));
    // An event may have overtaken this answer.
    this.items = page.items.map((item) => {
      const old = known.get(item.id);
      return old !== undefined && isLater(old, item) ? old : item;
    });
    this.asOf = page.as_of;
    this.degraded = page.degraded;
    this.more = page.next_cursor !== null;
    this.error = null;
    this.loaded = true;
    // What is said of a silent gateway changes with its sessions, both ways.
    if (page.items.some((item) => item.status === "lost") || this.silent.length > 0) void this.#lookAround();
  }

  /** Fetches what happened meanwhile; waits for an answer under way, which may lack it. */
  #catchUp(): void {
    if (this.#list.underWay) this.#catchUpSoon();
    else void this.refetch();
  }

  #catchUpSoon(): void {
    this.#settle ??= setTimeout(() => {
      this.#settle = undefined;
      this.#catchUp();
    }, SETTLE_MS);
  }

  async #lookAround(): Promise<void> {
    if (this.#looksAround) return;
    this.#looksAround = true;
    try {
      this.nodes = await api.nodes();
    } catch {
      // The list says already that the gateway does not answer; the last known nodes stay.
    } finally {
      this.#looksAround = false;
    }
  }

  /** Closes the stream, and leaves its seat to a list in front. */
  #hush(): void {
    this.#hushed += 1;
    clearTimeout(this.#settle);
    this.#settle = undefined;
    this.#stream?.close();
    this.#stream = null;
    this.#leave?.();
    this.#leave = null;
  }

  /** Opens the event stream if a seat is free. */
  async #listen(): Promise<void> {
    if (this.#leave === null) {
      const hushed = this.#hushed;
      const leave = await takeSeat();
      if (hushed !== this.#hushed || this.#leave !== null) return leave?.();
      if (leave === null) {
        // From here on only the timers refetch.
        if (!this.#list.underWay) void this.refetch();
        return;
      }
      this.#leave = leave;
    }
    this.#stream?.close();
    const stream = api.events();
    stream.addEventListener("open", () => this.#catchUp());
    stream.addEventListener("gap", () => this.#catchUp());
    // Only a fetch tells whether the gateway is gone. The browser pauses for seconds between errors: no storm.
    stream.addEventListener("error", () => this.#catchUp());
    stream.addEventListener("session", (event: MessageEvent<string>) => this.#apply(event.data));
    this.#stream = stream;
  }

  #apply(data: string): void {
    const { session } = JSON.parse(data) as { session: Session };
    const at = this.items.findIndex((item) => item.id === session.id);
    const known = this.items[at];
    if (known !== undefined && !isLater(known, session)) this.items[at] = session;
    // Only the gateway knows whether a new session matches the filters, or an old one still does.
    if (known === undefined || this.status.length > 0) this.#catchUpSoon();
  }
}
