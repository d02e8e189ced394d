/**
 * One unary gRPC call over HTTP/2 without TLS.
 *
 *     HEADERS :path /package.Service/Method, te: trailers
 *     DATA    | compressed: 1 byte, 0 | length: 4 bytes | message |        in either direction
 *     HEADERS grpc-status, grpc-message                                    the end of the answer
 *
 * Each call has a connection of its own: calls are a minute apart, and what is closed cannot break.
 * Whatever the other side does, a call ends in time, and takes no more memory than
 * {@link MAX_RESPONSE_LENGTH} and a few headers.
 *
 * Spec: grpc/grpc `doc/PROTOCOL-HTTP2.md`. Left out: streams, compression, retries.
 * @module
 */

import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from "node:http2";

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

/** What is read of an answer's message at most. */
export const MAX_RESPONSE_LENGTH = 64 * 1024;

const FRAME_HEADER_LENGTH = 5;
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
  let session: ClientHttp2Session | undefined;
  const end = (outcome: GrpcOutcome) => {
    clearTimeout(timer);
    ended.resolve(outcome);
    session?.destroy();
  };
  const abort = (reason: string) => end({ tag: "unreachable", reason });
  const timer = setTimeout(
    () => abort(`no answer within ${(timeoutMs / 1000).toFixed(1)} s`),
    timeoutMs,
  );
  try {
    session = connect(`http://${authorityOf(server)}`);
    session.on("error", (error) => abort(reasonOf(error)));
    session.on("close", () => abort("the connection was closed"));
    request(session, path, message, timeoutMs, end, abort);
  } catch (error) {
    abort(reasonOf(error));
  }
  return { outcome: ended.promise, abort };
}

function request(
  session: ClientHttp2Session,
  path: string,
  message: Uint8Array,
  timeoutMs: number,
  end: (outcome: GrpcOutcome) => void,
  abort: (reason: string) => void,
): void {
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_TE]: "trailers",
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_USER_AGENT]: "firezone-otlp",
    "grpc-timeout": `${Math.min(Math.ceil(timeoutMs), 99_999_999)}m`,
  });
  const body: Uint8Array[] = [];
  let length = 0;
  let httpStatus = 0;
  let status: IncomingHttpHeaders = {};
  stream.on("response", (headers) => {
    httpStatus = headers[":status"] ?? 0;
    // An answer without a message has its status here.
    status = headers;
  });
  stream.on("trailers", (trailers) => status = trailers as IncomingHttpHeaders);
  stream.on("data", (chunk: Uint8Array) => {
    length += chunk.length;
    if (length > MAX_RESPONSE_LENGTH) abort("the answer is too long");
    else body.push(chunk);
  });
  stream.on("error", (error) => abort(reasonOf(error)));
  stream.on("close", () => end(toOutcome(httpStatus, status, body)));
  stream.end(frame(message));
}

function toOutcome(
  httpStatus: number,
  headers: IncomingHttpHeaders,
  body: readonly Uint8Array[],
): GrpcOutcome {
  const codeText = headers["grpc-status"];
  if (typeof codeText === "string" && /^\d{1,3}$/.test(codeText)) {
    const code = Number(codeText);
    if (code === 0) return { tag: "ok", message: unframe(body) };
    const said = shorten(percentDecoded(String(headers["grpc-message"] ?? "")));
    const name = CODE_NAMES[code] ?? `status ${code}`;
    const reason = said === "" ? name : `${name}: ${said}`;
    return { tag: "refused", reason, mayRetry: RETRYABLE_CODES.has(code) };
  }
  if (httpStatus === 0) return { tag: "unreachable", reason: "the connection was closed" };
  if (httpStatus === 200) return { tag: "unreachable", reason: "the answer has no gRPC status" };
  const mayRetry = RETRYABLE_HTTP.has(httpStatus);
  return { tag: "refused", reason: `HTTP status ${httpStatus}`, mayRetry };
}

function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(FRAME_HEADER_LENGTH + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, FRAME_HEADER_LENGTH);
  return framed;
}

/** The message of an answer; empty if it is compressed or broken, since nothing depends on it. */
function unframe(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  if (whole.length < FRAME_HEADER_LENGTH || whole[0] !== 0) return new Uint8Array();
  const length = new DataView(whole.buffer).getUint32(1);
  return whole.subarray(FRAME_HEADER_LENGTH, FRAME_HEADER_LENGTH + length);
}

/** Of a stream that fails with its connection, the connection's reason. */
function reasonOf(error: unknown): string {
  const first = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return shorten(first instanceof Error ? first.message : String(first));
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
