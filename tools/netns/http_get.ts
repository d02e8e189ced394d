/**
 * Fetches over HTTP and tells how that went as one line of JSON:
 * `http_get.ts page|stream ADDRESS PORT LIMIT_MS`.
 *
 * `page` reads `/` to its end, and LIMIT_MS is the longest it may take. `stream` reads `/stream` for
 * LIMIT_MS after its first byte. The clock starts right before the connection is opened, so that
 * `firstByteMs` is the time from the first packet to the first byte of the answer.
 * @module
 */

/** What is printed. */
export type FetchReport =
  | {
    readonly ok: true;
    /** From the first packet to the first byte of the answer. */
    readonly firstByteMs: number;
    /** From the first byte to the last that was read. */
    readonly transferMs: number;
    /** Bytes read, headers included. */
    readonly bytes: number;
    /** First line of the answer. */
    readonly status: string;
    /** The page; empty for a stream. */
    readonly body: string;
  }
  | {
    readonly ok: false;
    /** Why nothing came. */
    readonly error: string;
    /** When that was clear, from the first packet on. */
    readonly afterMs: number;
  };

/** How long a stream may take to begin. */
const STREAM_START_LIMIT_MS = 20_000;

if (import.meta.main) {
  const [mode, address, port, limit] = Deno.args;
  console.log(JSON.stringify(await get(mode!, address!, Number(port), Number(limit))));
  Deno.exit(0); // A connection attempt that is still under way would keep us.
}

async function get(
  mode: string,
  hostname: string,
  port: number,
  limitMs: number,
): Promise<FetchReport> {
  const start = performance.now();
  const limit = new AbortController();
  const timer = setTimeout(
    () => limit.abort(new Error(`nothing within ${limitMs} ms`)),
    mode === "page" ? limitMs : STREAM_START_LIMIT_MS,
  );
  try {
    const aborted = new Promise<never>((_, reject) => {
      limit.signal.addEventListener("abort", () => reject(limit.signal.reason));
    });
    return await Promise.race([
      exchange(start, mode, hostname, port, limitMs, () => clearTimeout(timer)),
      aborted,
    ]);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { ok: false, error: text, afterMs: performance.now() - start };
  } finally {
    clearTimeout(timer);
  }
}

async function exchange(
  start: number,
  mode: string,
  hostname: string,
  port: number,
  limitMs: number,
  onFirstByte: () => void,
): Promise<FetchReport> {
  using connection = await Deno.connect({ hostname, port });
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  const path = mode === "stream" ? "/stream" : "/";
  const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  await connection.write(new TextEncoder().encode(request));
  const buffer = new Uint8Array(1 << 20);
  let count = await connection.read(buffer);
  const first = performance.now();
  if (count === null) throw new Error("the connection was closed without an answer");
  if (mode === "stream") onFirstByte();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  while (count !== null) {
    if (mode === "page" || bytes === 0) text += decoder.decode(buffer.subarray(0, count));
    bytes += count;
    if (mode === "stream" && performance.now() - first >= limitMs) break;
    count = await connection.read(buffer);
  }
  const headerEnd = text.indexOf("\r\n\r\n");
  return {
    ok: true,
    firstByteMs: first - start,
    transferMs: performance.now() - first,
    bytes,
    status: text.slice(0, text.indexOf("\r\n")),
    body: mode === "page" ? text.slice(headerEnd + 4) : "",
  };
}
