// Owns a line between a browser and a gateway that can be cut and mended. Knows only bytes and their direction.
import { once } from "node:events";
import { connect, createServer } from "node:net";

/** A TCP relay to one origin, under a port of its own. */
export class Line {
  #there;
  #server;
  #sockets = new Set();
  #port = 0;

  /** Starts a relay to `origin`, uncut. */
  static async start(origin) {
    const line = new Line();
    line.#there = new URL(origin);
    await line.mend();
    return line;
  }

  /** Returns `address` as it is reached through this line. */
  through(address) {
    return address.replace(this.#there.origin, `http://127.0.0.1:${this.#port}`);
  }

  /** Ends every connection, and accepts no new one. */
  async cut() {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Accepts connections again. */
  async mend() {
    this.#server = createServer((near) => this.#join(near));
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = this.#server.address().port;
  }

  async stop() {
    if (this.#server.listening) await this.cut();
  }

  #join(near) {
    const far = connect(Number(this.#there.port), this.#there.hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.pipe(other);
      // A cut line is not an error here.
      socket.on("error", () => other.destroy());
      socket.once("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
