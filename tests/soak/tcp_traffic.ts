/**
 * Streams both ways over TCP, checked byte by byte: `tcp_traffic.ts ORDERS`, see {@link TcpOrders}.
 *
 * The client says in twelve bytes which two patterns and how much of each; then both send at once,
 * in writes of all sizes.
 * @module
 */

import { Dice, Pattern } from "./pattern.ts";

/** What to do, as JSON in the first argument. */
export type TcpOrders =
  | { readonly serve: number }
  | { readonly connect: readonly string[]; readonly port: number; readonly bytes: number };

/** What the connecting end prints at its end. */
export interface TcpReport {
  /** Bytes that arrived as they were sent, at both ends together. */
  readonly checkedBytes: number;
}

const HEADER = 12;
const MAX_WRITE = 200_000;
/** After so long without a byte either way the tunnel is taken for broken. */
const STALL_MS = 10_000;

/** When bytes last went or came, on any connection. */
let movedAt = performance.now();

/** Sends `length` bytes of a pattern, in writes of all sizes. */
async function send(conn: Deno.TcpConn, seed: number, length: number): Promise<void> {
  const pattern = new Pattern(seed);
  const dice = new Dice(seed + 1);
  for (let left = length; left > 0;) {
    // Small ones as often as large ones.
    const size = Math.min(left, 1 + dice.below(dice.below(2) === 0 ? 1500 : MAX_WRITE));
    const bytes = new Uint8Array(size);
    pattern.fill(bytes);
    await writeAll(conn, bytes);
    left -= size;
  }
  await conn.closeWrite();
}

/** Reads to the end. @throws Error when it is not `length` bytes of that pattern */
async function expect(conn: Deno.TcpConn, seed: number, length: number): Promise<void> {
  const pattern = new Pattern(seed);
  const buf = new Uint8Array(1 << 18);
  let got = 0;
  for (let n; (n = await conn.read(buf)) !== null;) {
    movedAt = performance.now();
    if (!pattern.check(buf.subarray(0, n))) throw new Error(`damaged after byte ${got}`);
    got += n;
  }
  if (got !== length) throw new Error(`${got} bytes arrived, not ${length}`);
}

async function writeAll(conn: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await conn.write(bytes.subarray(at));
    movedAt = performance.now();
  }
}

/** Does the work. @throws Error when nothing moves any more */
async function watch(work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setInterval> | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      if (performance.now() - movedAt < STALL_MS) return;
      reject(new Error(`the tunnel stands still: no byte went or came for ${STALL_MS} ms`));
    }, 100);
  });
  await Promise.race([work, stalled]);
  clearInterval(timer);
}

async function serve(port: number): Promise<void> {
  const listener = Deno.listen({ hostname: "::", port });
  console.log("listening");
  for await (const conn of listener) {
    answer(conn).catch((error) => console.log(`server: ${error.message}`)).finally(() =>
      conn.close()
    );
  }
}

async function answer(conn: Deno.TcpConn): Promise<void> {
  const header = new Uint8Array(HEADER);
  for (let at = 0; at < HEADER;) {
    const n = await conn.read(header.subarray(at));
    if (n === null) throw new Error("no header");
    at += n;
  }
  const view = new DataView(header.buffer);
  const [seed, length] = [view.getUint32(0), view.getFloat64(4)];
  // The last byte tells the client that everything was right.
  const sent = send(conn, seed + 1, length);
  await expect(conn, seed, length);
  await sent;
}

async function exchange(hostname: string, port: number, seed: number, bytes: number) {
  using conn = await Deno.connect({ hostname, port });
  conn.setNoDelay(seed % 2 === 0);
  const header = new Uint8Array(HEADER);
  const view = new DataView(header.buffer);
  view.setUint32(0, seed);
  view.setFloat64(4, bytes);
  await writeAll(conn, header);
  await Promise.all([send(conn, seed, bytes), expect(conn, seed + 1, bytes)]);
}

if (import.meta.main) {
  const orders: TcpOrders = JSON.parse(Deno.args[0]!);
  if ("serve" in orders) await serve(orders.serve);
  else {
    const { connect, port, bytes } = orders;
    const share = Math.ceil(bytes / 2 / connect.length);
    await watch(
      Promise.all(connect.map((host, i) => exchange(host, port, 1000 * (i + 1), share))),
    );
    const report: TcpReport = { checkedBytes: 2 * share * connect.length };
    console.log(JSON.stringify(report));
  }
}
