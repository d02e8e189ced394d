/**
 * A portal that has lost its mind: `nonsense_portal.ts ADDRESS PORT`.
 *
 * Whoever connects gets another kind of nonsense each time: first frames that arrive in order and
 * mean nothing, then answers and frames that break HTTP and WebSocket (RFC 6455). Prints `listening`,
 * and `act N PATH` once a visitor has had its part.
 * @module
 */

import { createHash } from "node:crypto";

const ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const OPCODE = { text: 1, binary: 2, close: 8, ping: 9, pong: 10, reserved: 11 };
const LARGE = 12 * 1024 * 1024;
const TOO_LARGE = 2 ** 40;

/** Topics and events that mean something, with payloads that do not. */
const EVENTS = [
  ...["init", "phx_reply", "phx_error", "phx_close", "resource_created_or_updated"],
  ...["resource_deleted", "config_changed", "relays_presence", "flow_created", "reject_access"],
  ...["authorize_flow", "create_authorization", "authorization_created", "ice_candidates"],
  ...[
    "invalidate_ice_candidates",
    "allow_access",
    "resource_updated",
    "no_such_event",
    "",
    "__proto__",
  ],
];
const PAYLOADS: readonly unknown[] = [
  null,
  [],
  "text",
  -1,
  {},
  { resources: [{ id: {}, type: "cidr", address: "10.0.0.0/99" }], relays: null, interface: 7 },
  { resource: { id: "../..", type: "internet" }, expires_at: 1e308 },
  { ["__proto__"]: { isAdmin: true }, constructor: { prototype: [] } },
  { candidates: ["candidate:" + "9".repeat(10_000), 5, null], gateway_id: [], client_id: {} },
  { connected: [{ type: "turn", addr: "[::]:0", password: 1 }], disconnected_ids: "all" },
];

type Act = (visitor: Visitor) => Promise<void>;

interface Visitor {
  readonly connection: Deno.TcpConn;
  /** The handshake's answer that its key asks for. */
  readonly accept: string;
  /** First part of the join message. */
  readonly topic: string;
}

const ACTS: readonly Act[] = [
  async (visitor) => {
    await shakeHands(visitor);
    await join(visitor);
    await sayMeaningless(visitor.connection);
    await write(visitor.connection, frame(OPCODE.binary, new Uint8Array(1000)));
    await write(visitor.connection, frame(OPCODE.text, utf8(`["${"a".repeat(LARGE)}"]`)));
    for (let i = 0; i < 1_000; i++) await write(visitor.connection, frame(OPCODE.ping, utf8("?")));
    // A message that says how long it is, and does not come.
    await write(visitor.connection, frame(OPCODE.text, new Uint8Array(), TOO_LARGE));
  },
  async (visitor) => {
    await shakeHands(visitor);
    await join(visitor);
    await write(visitor.connection, frame(OPCODE.text, Uint8Array.of(0xff, 0xfe, 0x80)));
  },
  ({ connection }) => write(connection, crypto.getRandomValues(new Uint8Array(5000))),
  ({ connection }) =>
    write(connection, utf8("HTTP/1.1 101 Fine\r\nSec-WebSocket-Accept: no\r\n\r\n")),
  ({ connection }) => write(connection, utf8(`HTTP/1.1 503 No\r\n${"X: y\r\n".repeat(300_000)}`)),
  async (visitor) => {
    await shakeHands(visitor);
    await write(visitor.connection, frame(OPCODE.reserved, new Uint8Array(3)));
  },
  async (visitor) => {
    await shakeHands(visitor);
    await write(visitor.connection, frame(OPCODE.close, Uint8Array.of(0)));
  },
];

const [hostname, port] = Deno.args;
const visits = new Map<string, number>();
const listener = Deno.listen({ hostname: hostname!, port: Number(port) });
console.log("listening");
for await (const connection of listener) void perform(connection).catch(sayUnlessHungUp);

/** Whoever is told nonsense may hang up. */
function sayUnlessHungUp(error: unknown): void {
  const isHangUp = error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BadResource;
  if (!isHangUp) console.log("failed", error);
}

/** Looks only as closely at the request as an answer needs. */
async function perform(connection: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  const count = await connection.read(buffer) ?? 0;
  const request = new TextDecoder().decode(buffer.subarray(0, count));
  const path = /^GET (\/\w+)/.exec(request)?.[1] ?? "nowhere";
  const key = /^sec-websocket-key: (\S+)/im.exec(request)?.[1] ?? "";
  const accept = createHash("sha1").update(key + ACCEPT_SUFFIX).digest("base64");
  const visit = visits.get(path) ?? 0;
  visits.set(path, visit + 1);
  try {
    await ACTS[visit % ACTS.length]!({ connection, accept, topic: path.slice(1) });
    await new Promise((resolve) => setTimeout(resolve, 200));
  } finally {
    connection.close();
    console.log(`act ${visit} ${path}`);
  }
}

async function shakeHands({ connection, accept }: Visitor): Promise<void> {
  const head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
  await write(connection, utf8(`${head}Sec-WebSocket-Accept: ${accept}\r\n\r\n`));
}

/** Answers the first message as if it had joined, without a look at what it says. */
async function join({ connection, topic }: Visitor): Promise<void> {
  await connection.read(new Uint8Array(65_536));
  for (const ref of ["0", "1", 0, 1]) {
    await sayJson(connection, {
      ...{ topic, ref, event: "phx_reply" },
      payload: { status: "ok", response: {} },
    });
  }
}

async function sayMeaningless(connection: Deno.TcpConn): Promise<void> {
  for (const topic of ["client", "gateway", "phoenix", ""]) {
    for (const event of EVENTS.filter((one) => !/^phx_(error|close)$/.test(one))) {
      for (const payload of PAYLOADS) {
        await sayJson(connection, { topic, ref: null, event, payload });
      }
    }
  }
  const texts = ["", "{", "null", "[1,2,3]", '"x"', "[".repeat(100_000), '{"event":', "\u0000"];
  for (const text of texts) await write(connection, frame(OPCODE.text, utf8(text)));
}

async function sayJson(connection: Deno.TcpConn, value: unknown): Promise<void> {
  await write(connection, frame(OPCODE.text, utf8(JSON.stringify(value))));
}

/** A frame that is not masked, as servers send them (§5.2). */
function frame(opcode: number, payload: Uint8Array, length = payload.length): Uint8Array {
  const header = new DataView(new ArrayBuffer(10));
  header.setUint8(0, 0x80 | opcode);
  let headerBytes = 2;
  if (length < 126) {
    header.setUint8(1, length);
  } else if (length < 65_536) {
    header.setUint8(1, 126);
    header.setUint16(2, length);
    headerBytes = 4;
  } else {
    header.setUint8(1, 127);
    header.setBigUint64(2, BigInt(length));
    headerBytes = 10;
  }
  const bytes = new Uint8Array(headerBytes + payload.length);
  bytes.set(new Uint8Array(header.buffer, 0, headerBytes));
  bytes.set(payload, headerBytes);
  return bytes;
}

async function write(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
