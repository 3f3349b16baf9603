// Owns an OpenID Connect provider on this machine, under another host name than the gateway's, so that the way between
// them crosses sites.
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { createServer } from "node:http";

const KEY = "k1";

/** A running provider, with its own RSA key; shows a page with one link, and makes the claims `person` about a user who
 *  follows it. */
export class Provider {
  /** The claims it makes about the user. */
  person = {};
  client = "pulsegate";
  secret = randomBytes(24).toString("hex");
  #key = generateKeyPairSync("rsa", { modulusLength: 2048 });
  #codes = new Map();
  #server;

  static async start() {
    const provider = new Provider();
    provider.#server = createServer((request, response) => provider.#answers(request, response));
    await new Promise((resolve) => provider.#server.listen(0, "localhost", resolve));
    provider.issuer = `http://localhost:${provider.#server.address().port}`;
    return provider;
  }

  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answers(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.issuer);
    let body = "";
    for await (const piece of request) body += piece;
    const [status, kind, text] = this.#says(pathname, searchParams, body, request.headers);
    response.writeHead(status, kind === "location" ? { location: text } : { "content-type": kind });
    response.end(kind === "location" ? "" : text);
  }

  #says(path, query, body, headers) {
    const json = (value, status = 200) => [status, "application/json", JSON.stringify(value)];
    switch (path) {
      case "/.well-known/openid-configuration":
        return json({
          issuer: this.issuer,
          authorization_endpoint: `${this.issuer}/authorize`,
          token_endpoint: `${this.issuer}/token`,
          jwks_uri: `${this.issuer}/keys`,
          end_session_endpoint: `${this.issuer}/end`,
          token_endpoint_auth_methods_supported: ["client_secret_post"],
        });
      case "/keys":
        return json({ keys: [{ ...this.#key.publicKey.export({ format: "jwk" }), kid: KEY, use: "sig", alg: "RS256" }] });
      case "/authorize":
        return [200, "text/html", `<!doctype html><title>Example ID</title><a href="/go?${query.toString().replaceAll("&", "&amp;")}">Go on</a>
          <a href="/no?${query.toString().replaceAll("&", "&amp;")}">Decline</a>`];
      case "/go":
      case "/no": {
        const code = randomBytes(16).toString("hex");
        this.#codes.set(code, Object.fromEntries(query));
        const told = path === "/go" ? { code } : { error: "access_denied" };
        return [302, "location", `${query.get("redirect_uri")}?${new URLSearchParams({ ...told, state: query.get("state") })}`];
      }
      case "/end":
        return [200, "text/html", `<!doctype html><title>Example ID</title><a href="${query.get("post_logout_redirect_uri")}">Signed out</a>`];
      case "/token":
        return this.#trades(new URLSearchParams(body), headers) ?? json({ error: "invalid_grant" }, 400);
      default:
        return [404, "text/plain", ""];
    }
  }

  #trades(form) {
    const wanted = this.#codes.get(form.get("code"));
    this.#codes.delete(form.get("code"));
    const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
    const fits = [form.get("client_id") === this.client, form.get("client_secret") === this.secret, challenge === wanted?.code_challenge];
    if (fits.includes(false)) return undefined;
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.issuer, aud: this.client, nonce: wanted.nonce, iat: now, exp: now + 300, ...this.person };
    const parts = [{ alg: "RS256", kid: KEY }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
    const mark = sign("sha256", Buffer.from(parts.join(".")), this.#key.privateKey).toString("base64url");
    return [200, "application/json", JSON.stringify({ id_token: [...parts, mark].join("."), token_type: "Bearer" })];
  }
}
