/**
 * One unary gRPC call over HTTP/2 without TLS.
 *
 *     HEADERS :path /package.Service/Method, te: trailers
 *     DATA    | compressed: 1 byte, 0 | length: 4 bytes | message |        in either direction
 *     HEADERS grpc-status, grpc-message                                    the end of the answer
 *
 * Each call has a connection of its own: calls are a minute apart, and what is closed cannot break.
 * Whatever the other side does, a call ends in time, leaves nothing behind, and takes no more memory
 * than {@link Http2Connection} says.
 *
 * Spec: grpc/grpc `doc/PROTOCOL-HTTP2.md`. Left out: streams, compression, retries.
 * @module
 */

import { Http2Connection, type Http2Request, type Http2Response } from "../../http2/mod.ts";

/** Where a service listens. */
export interface HostPort {
  /** A name or an address; IPv6 without brackets. */
  readonly host: string;
  /** TCP port. */
  readonly port: number;
}

/** How a call ended. */
export type GrpcOutcome =
  | { readonly tag: "ok"; readonly message: Uint8Array }
  /** An answer that says no; `mayRetry`: the same might be taken later. */
  | { readonly tag: "refused"; readonly reason: string; readonly mayRetry: boolean }
  /** No answer that can be understood. */
  | { readonly tag: "unreachable"; readonly reason: string };

/** A call that is under way. */
export interface GrpcCall {
  /** Never rejects. */
  readonly outcome: Promise<GrpcOutcome>;
  /** Ends it now, as unreachable. */
  abort(reason: string): void;
}

const FRAME_HEADER_LENGTH = 5;
const READ_LENGTH = 16_384;
const MAX_REASON_LENGTH = 200;

/** Status codes after which OTLP lets a client try again (opentelemetry.io/docs/specs/otlp, §OTLP/gRPC). */
const RETRYABLE_CODES: ReadonlySet<number> = new Set([1, 4, 8, 10, 11, 14, 15]);
/** HTTP status of a proxy that could not reach the service. */
const RETRYABLE_HTTP: ReadonlySet<number> = new Set([429, 502, 503, 504]);

const CODE_NAMES = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"],
  ...["ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"],
  ...["ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"],
  "UNAUTHENTICATED",
];

/** `host:port`, with brackets where the host is an IPv6 address. */
export function authorityOf({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Calls a method.
 *
 * @param path `/package.Service/Method`
 * @param message the request; must not change before the call has ended
 * @param timeoutMs for everything, connecting included
 */
export function startGrpcCall(
  server: HostPort,
  path: string,
  message: Uint8Array,
  timeoutMs: number,
): GrpcCall {
  const ended = Promise.withResolvers<GrpcOutcome>();
  let connection: Deno.TcpConn | undefined;
  let isOver = false;
  const end = (outcome: GrpcOutcome) => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    connection?.close();
    ended.resolve(outcome);
  };
  const abort = (reason: string) => end({ tag: "unreachable", reason: shorten(reason) });
  const timer = setTimeout(
    () => abort(`no answer within ${(timeoutMs / 1000).toFixed(1)} s`),
    timeoutMs,
  );
  const run = async () => {
    connection = await Deno.connect({ hostname: server.host, port: server.port });
    // Nobody could stop the attempt to connect.
    if (isOver) return connection.close();
    const response = await exchange(connection, authorityOf(server), {
      path,
      headers: [
        ["te", "trailers"],
        ["content-type", "application/grpc"],
        ["user-agent", "firezone-otlp"],
        ["grpc-timeout", `${Math.min(Math.ceil(timeoutMs), 99_999_999)}m`],
      ],
      body: frame(message),
    });
    end(toOutcome(response));
  };
  run().catch((error) => abort(error instanceof Error ? error.message : String(error)));
  return { outcome: ended.promise, abort };
}

/**
 * Sends one request and waits for its answer.
 *
 * @throws Error with the reason when there is none, or once the connection is closed here
 */
async function exchange(
  connection: Deno.TcpConn,
  authority: string,
  request: Http2Request,
): Promise<Http2Response> {
  const http = new Http2Connection({ scheme: "http", authority });
  http.request(request);
  const buffer = new Uint8Array(READ_LENGTH);
  while (true) {
    for (let output; (output = http.pollOutput()) !== undefined;) {
      for (let sent = 0; sent < output.length;) {
        sent += await connection.write(output.subarray(sent));
      }
    }
    const length = await connection.read(buffer);
    if (length === null) http.close("the connection was closed");
    else http.handleBytes(buffer.subarray(0, length));
    const event = http.pollEvent();
    if (event?.tag === "response") return event.response;
    if (event !== undefined) throw new Error(event.reason);
  }
}

/** The status of an answer without a message comes in its headers, else behind the message. */
function toOutcome({ status, headers, trailers, body }: Http2Response): GrpcOutcome {
  const ending = trailers.has("grpc-status") ? trailers : headers;
  const codeText = ending.get("grpc-status");
  if (codeText !== undefined && /^\d{1,3}$/.test(codeText)) {
    const code = Number(codeText);
    const said = ending.get("grpc-message") ?? "";
    return code === 0 ? { tag: "ok", message: unframe(body) } : toRefusal(code, said);
  }
  if (status === 200) return { tag: "unreachable", reason: "the answer is not gRPC" };
  return {
    tag: "refused",
    reason: `HTTP status ${status}`,
    mayRetry: RETRYABLE_HTTP.has(status),
  };
}

function toRefusal(code: number, message: string): GrpcOutcome {
  const said = shorten(percentDecoded(message));
  const name = CODE_NAMES[code] ?? `status ${code}`;
  const reason = said === "" ? name : `${name}: ${said}`;
  return { tag: "refused", reason, mayRetry: RETRYABLE_CODES.has(code) };
}

function frame(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const framed = new Uint8Array(FRAME_HEADER_LENGTH + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, FRAME_HEADER_LENGTH);
  return framed;
}

/** The message of an answer; empty if it is compressed or broken, since nothing depends on it. */
function unframe(body: Uint8Array): Uint8Array {
  if (body.length < FRAME_HEADER_LENGTH || body[0] !== 0) return new Uint8Array();
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1);
  return body.slice(FRAME_HEADER_LENGTH, FRAME_HEADER_LENGTH + length);
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function shorten(text: string): string {
  return text.length > MAX_REASON_LENGTH ? `${text.slice(0, MAX_REASON_LENGTH)}…` : text;
}
