// Owns the types exchanged with the gateway: a session in JSON and the frames of the `pulsegate.v1` terminal WebSocket.
// Knows neither sockets nor screens.

/** The WebSocket subprotocol this page speaks. */
export const SUBPROTOCOL = "pulsegate.v1";

/** The status of a session; `closed` is final, `lost` means that its gateway is silent. */
export type Status = "connecting" | "active" | "detached" | "lost" | "closed";

/** Every status, in the order of a session's life. */
export const STATUSES: readonly Status[] = ["connecting", "active", "detached", "lost", "closed"];

/** The reason why a session ended. */
export type EndReason =
  | "exited"
  | "user_closed"
  | "terminated"
  | "detach_expired"
  | "idle_timeout"
  | "max_duration"
  | "peer_lost"
  | "peer_closed"
  | "connect_failed"
  | "auth_failed"
  | "host_key_rejected"
  | "node_lost"
  | "fenced"
  | "revoked"
  | "shutdown"
  | "actor_failed"
  | "overloaded";

/** A session as the gateway reports it everywhere. Times are RFC 3339 UTC; unknown is `null`. */
export interface Session {
  id: string;
  status: Status;
  end_reason: EndReason | null;
  exit_status: number | null;
  username: string;
  /** A name of the catalogue, or `login@host:port` for a target typed by hand. */
  target: string;
  target_addr: string | null;
  client_ip: string | null;
  node: string;
  epoch: number;
  /** Grows with every change: of two versions the higher is the newer. */
  version: number;
  start_time: string;
  last_seen_at: string | null;
  last_input_at: string | null;
  end_time: string | null;
  detected_at: string | null;
  bytes_in: number;
  bytes_out: number;
  watchers: number;
  /** The guest who has control; `null` for the owner. */
  controlled_by: string | null;
  /** Whether there is, or was, a recording. */
  recorded: boolean;
  durable: "records" | "journal";
}

/** One of the gateways that share the list. */
export interface Node {
  id: string;
  /** Whether it is the gateway that answers. */
  own: boolean;
  standing: "serving" | "lost" | "left" | "fenced";
}

/** One field of a prompt; `echo: false` hides the input. */
export interface PromptField {
  label: string;
  echo: boolean;
}

/** A question to the user while the SSH connection is made. Its texts come from outside: show them as text only. */
export interface Prompt {
  type: "prompt";
  id: number;
  kind: "password" | "keyboard_interactive" | "host_key";
  title: string;
  text: string;
  fields: PromptField[];
}

/** A text frame from the page. Binary frames are input, verbatim. */
export type ClientFrame =
  /** The first frame. `null` offsets: this page is new here; send what the screen needs. */
  | {
      type: "attach";
      cols: number;
      rows: number;
      mode: "interactive" | "observe";
      client_id: string;
      output_offset: number | null;
      input_offset: number | null;
      /** This page can draw a picture: bytes that show a screen and count in no offset. */
      screen: true;
      /** This page knows that control may move. */
      control: true;
      /** This page comes back by itself and must not supersede another one. */
      again?: true;
    }
  /** Output is consumed up to this byte; frees the gateway's window. */
  | { type: "ack"; output_offset: number }
  /** The terminal's new size, 1…1000 each. */
  | { type: "resize"; cols: number; rows: number }
  /** One value per field of the prompt; a host key takes `["yes"]` or `["no"]`. */
  | { type: "answer"; id: number; values: string[] }
  /** The user is still here, though nothing was typed. */
  | { type: "stay" }
  /** The user is done: end the SSH session at once. */
  | { type: "close" }
  /** A watcher asks for control, takes it or gives it back; the owner takes it back. */
  | { type: "request_control" | "take_control" | "return_control" }
  /** The owner answers a request. */
  | { type: "grant_control" | "refuse_control"; id: number }
  /** The input that follows is typed in this turn. */
  | { type: "typing"; turn: number };

/** The state of control, as this page receives it. */
export interface Control {
  /** Grows each time control moves. */
  turn: number;
  /** Whether this page has control. */
  typing: boolean;
  /** The guest who has control; `null` for the owner. */
  name: string | null;
  /** The way in which this page can get control. */
  may: "take" | "ask" | "none";
  /** Offset up to which this page's input was taken; the rest never will be. */
  input_offset: number;
  /** The sentence about how control moved; may be empty. */
  message: string;
}

/** A user's request to the owner for control. */
export interface ControlRequest {
  id: number;
  name: string;
  ends_in_ms: number;
}

/** The outcome of a request for control. */
export interface ControlAnswer {
  outcome: "waiting" | "refused" | "expired";
  message: string;
}

/** A text frame from the gateway. Binary frames are output, verbatim. */
export type ServerFrame =
  /** Output that follows starts at `output_offset`; input is taken up to `input_offset`. */
  | {
      type: "attached";
      session: Session;
      output_offset: number;
      input_offset: number;
      output_window: number;
      ping_interval_ms: number;
      resumed: boolean;
      /** Output that fell out of the replay buffer while this page was away. */
      lost_bytes: number;
      /** The terminal's size: that of the page with control. */
      cols: number;
      rows: number;
      /** Bytes of the picture that comes before that output. */
      screen_bytes: number;
      control?: Control;
    }
  | ({ type: "control" } & Control)
  /** All open requests for control; for the owner. */
  | { type: "control_requests"; items: ControlRequest[] }
  | ({ type: "control_answer" } & ControlAnswer)
  /** Input came without control; the `control` frame says how far input was taken. */
  | { type: "input_refused"; message: string }
  /** This page was too slow for all of the output: it goes on from a picture, then from `output_offset`. */
  | { type: "screen"; output_offset: number; screen_bytes: number; lost_bytes: number }
  /** The terminal's new size, that of the page with control; for watchers. */
  | { type: "size"; cols: number; rows: number }
  /** The watchers have changed: their users, each once. */
  | { type: "watchers"; names: string[] }
  /** Input is taken up to this byte and need not be sent again. */
  | { type: "input_ack"; input_offset: number }
  | Prompt
  /** The session entered this status; `detail` is one sentence about it. */
  | { type: "status"; status: Status; detail: string }
  /** The socket stands; to a page that watches, which hears nothing else of a quiet shell. */
  | { type: "alive" }
  /** Nothing was typed for long; the session closes unless `stay` or input comes, which withdraw this with `null`. */
  | { type: "idle_warning"; closes_in_ms: number | null }
  /** The session has nearly reached its longest duration; nothing puts that off. */
  | { type: "duration_warning"; closes_in_ms: number }
  /** The gateway cannot renew its lease and ends every session, unless it can in time, which withdraws this with `null`. */
  | { type: "lease_warning"; closes_in_ms: number | null }
  /** Something to know that changes nothing yet: the gateway is about to stop. */
  | { type: "notice"; code: string; message: string }
  /** The session is over; the socket closes with 1000. */
  | { type: "closed"; reason: EndReason; exit_status: number | null; message: string }
  /** Something is wrong; the socket closes with one of `CLOSE_CODES`. */
  | { type: "error"; code: string; message: string };

/** The gateway's own WebSocket close codes. */
export const CLOSE_CODES = {
  protocol: 4400,
  signIn: 4401,
  notYours: 4403,
  noSuchSession: 4404,
  slowToAttach: 4408,
  superseded: 4409,
  frameTooLarge: 4413,
  misdirected: 4421,
  tooMany: 4429,
} as const;

/** Reads a text frame; `null` for what is no JSON object with a `type`. Callers ignore types they do not know. */
export function parseServerFrame(text: string): ServerFrame | null {
  try {
    const frame: unknown = JSON.parse(text);
    const typed = typeof frame === "object" && frame !== null && "type" in frame;
    return typed ? (frame as ServerFrame) : null;
  } catch {
    return null;
  }
}
