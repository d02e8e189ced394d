/**
 * As much of a portal as a relay needs, on loopback.
 * @module
 */

/** As much of a portal as a relay needs. */
export class FakePortal implements AsyncDisposable {
  /** Of the last connection. */
  headers: Headers | undefined;
  /** Of the last connection. */
  query: string | undefined;
  /** The last message that joined, without its number. */
  join: unknown;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #sockets: WebSocket[] = [];

  /** Listens. @param refusal status that everybody is refused with */
  constructor(refusal?: number) {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const url = new URL(request.url);
      if (refusal !== undefined) return new Response(null, { status: refusal });
      if (url.pathname !== "/relay/websocket") return new Response(null, { status: 404 });
      this.headers = new Headers(request.headers);
      this.query = url.search.slice(1);
      const { socket, response } = Deno.upgradeWebSocket(request);
      this.#sockets.push(socket);
      socket.onmessage = ({ data }) => this.#answer(socket, JSON.parse(data));
      return response;
    });
  }

  /** Where it listens. */
  get url(): string {
    return `ws://127.0.0.1:${this.#server.addr.port}/`;
  }

  /** Closes all connections. */
  hangUp(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  /** Closes all connections and stops listening. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    await this.#server.shutdown();
  }

  #answer(socket: WebSocket, message: { topic: string; event: string; ref: unknown }): void {
    const { ref, ...rest } = message;
    if (message.event === "phx_join") this.join = rest;
    const { topic } = message;
    const reply = { topic, event: "phx_reply", ref, payload: { status: "ok", response: {} } };
    socket.send(JSON.stringify(reply));
  }
}
