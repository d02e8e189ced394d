/**
 * An OpenTelemetry collector that keeps what it gets: OTLP over gRPC, on a real socket.
 *
 * Its HTTP/2 is that of `Deno.serve`, which sends no trailers: the status stands in the headers, also
 * where a message follows. (The server of Deno 2.9's `node:http2` sends them, and crashes under load.)
 *
 * It reads messages by itself, so that a mistake of what writes them is not undone by a mistake of
 * what reads them. Names are those of opentelemetry-proto.
 * @module
 */

import { Buffer } from "node:buffer";
/** A value of an attribute. */
export type CollectedValue = string | number | boolean;

/** Attributes by name. */
export type CollectedAttributes = Readonly<Record<string, CollectedValue>>;

/** A number or a distribution at one time. */
export interface CollectedPoint {
  /** Of its series. */
  readonly attributes: CollectedAttributes;
  /** Nanoseconds since 1970 at which counting began. */
  readonly startNanos: bigint;
  /** Nanoseconds since 1970 at which it was read. */
  readonly timeNanos: bigint;
  /** Of a sum. */
  readonly value?: number;
  /** Of a histogram. */
  readonly histogram?: {
    /** How many values. */
    readonly count: number;
    /** All of them added up. */
    readonly sum: number;
    /** Smallest. */
    readonly min: number;
    /** Largest. */
    readonly max: number;
    /** How many in each bucket. */
    readonly buckets: readonly number[];
    /** Between the buckets. */
    readonly bounds: readonly number[];
  };
}

/** A metric of one request. */
export interface CollectedMetric {
  /** Of the request. */
  readonly resource: CollectedAttributes;
  /** Name of the instrumentation scope. */
  readonly scope: string;
  /** Its name. */
  readonly name: string;
  /** Its unit. */
  readonly unit: string;
  /** Which of the two it is. */
  readonly type: "sum" | "histogram";
  /** `AGGREGATION_TEMPORALITY_…`. */
  readonly temporality: "unspecified" | "delta" | "cumulative";
  /** Of a sum. */
  readonly isMonotonic: boolean;
  /** Its series. */
  readonly points: readonly CollectedPoint[];
}

/** A span. */
export interface CollectedSpan {
  /** Of the request. */
  readonly resource: CollectedAttributes;
  /** In hex. */
  readonly traceId: string;
  /** In hex. */
  readonly spanId: string;
  /** In hex; empty if there is none. */
  readonly parentSpanId: string;
  /** Its name. */
  readonly name: string;
  /** Its attributes. */
  readonly attributes: CollectedAttributes;
  /** Nanoseconds since 1970. */
  readonly startNanos: bigint;
  /** Nanoseconds since 1970. */
  readonly endNanos: bigint;
  /** Of its status, 2 is an error. */
  readonly statusCode: number;
  /** Of its status. */
  readonly statusMessage: string;
}

/** How a collector answers a request after it was read. */
export type CollectorAnswer = (request: Request) => Response | Promise<Response>;

/** See the head of this file. */
export class OtlpCollector implements AsyncDisposable {
  /** All metrics so far, in order. */
  readonly metrics: CollectedMetric[] = [];
  /** All spans so far, in order. */
  readonly spans: CollectedSpan[] = [];
  /** Requests so far, by path. */
  readonly requests: string[] = [];
  /** How requests are answered from now on. */
  answer: CollectorAnswer = () => acceptance();
  /** Where it listens, on 127.0.0.1. */
  readonly port: number;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #end = new AbortController();
  #waiting: (() => void)[] = [];

  private constructor(port: number) {
    const { signal } = this.#end;
    const listen = { hostname: "127.0.0.1", port, signal, onListen: () => {} };
    this.#server = Deno.serve(listen, (request) => this.#handle(request));
    this.port = this.#server.addr.port;
  }

  /** Starts one, on any port or a given one. */
  static listen(port = 0): OtlpCollector {
    return new OtlpCollector(port);
  }

  /** Waits until `isThere` finds what it looks for. @throws Error after ten seconds */
  async until<T>(isThere: (collector: this) => T | undefined): Promise<T> {
    const end = Date.now() + 10_000;
    for (let found; Date.now() < end;) {
      if ((found = isThere(this)) !== undefined) return found;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      const timer = setTimeout(resolve, end - Date.now());
      await promise;
      clearTimeout(timer);
    }
    throw new Error(`The collector has not got it; it got ${JSON.stringify(this.requests)}`);
  }

  /** Ends what is open and stops listening. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#server.finished;
  }

  async #handle(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname;
    const body = new Uint8Array(await request.arrayBuffer());
    if (body[0] !== 0 || body.length !== 5 + new DataView(body.buffer).getUint32(1)) {
      return refusal(INTERNAL, "broken gRPC frame");
    }
    if (request.headers.get("te") !== "trailers") return refusal(INTERNAL, "no te: trailers");
    const message = body.subarray(5);
    this.requests.push(path);
    if (path === METRICS_PATH) this.metrics.push(...toMetrics(message));
    else if (path === TRACE_PATH) this.spans.push(...toSpans(message));
    else return refusal(UNIMPLEMENTED, path);
    for (const resolve of this.#waiting.splice(0)) resolve();
    return await this.answer(request);
  }
}

const SERVICES = "/opentelemetry.proto.collector";
const METRICS_PATH = `${SERVICES}.metrics.v1.MetricsService/Export`;
const TRACE_PATH = `${SERVICES}.trace.v1.TraceService/Export`;
const UNIMPLEMENTED = 12;
const INTERNAL = 13;

/** All is well; the message says no more. */
export function acceptance(message: Uint8Array = new Uint8Array()): Response {
  const body = new Uint8Array(5 + message.length);
  new DataView(body.buffer).setUint32(1, message.length);
  body.set(message, 5);
  return new Response(body, {
    headers: { "content-type": "application/grpc", "grpc-status": "0" },
  });
}

/** No, with a gRPC status. */
export function refusal(code: number, message = ""): Response {
  return new Response(null, {
    headers: {
      "content-type": "application/grpc",
      "grpc-status": `${code}`,
      "grpc-message": encodeURIComponent(message),
    },
  });
}

/** Nothing, for ever. */
export function silence(): Promise<Response> {
  return new Promise(() => {});
}

type Field = bigint | Uint8Array;

/** The fields of a message by number. */
class Message {
  readonly #fields = new Map<number, Field[]>();

  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    const varint = (): bigint => {
      for (let value = 0n, shift = 0n;; shift += 7n) {
        const byte = view.getUint8(at++);
        value |= BigInt(byte & 127) << shift;
        if (byte < 128) return BigInt.asUintN(64, value);
      }
    };
    while (at < bytes.length) {
      const tag = Number(varint());
      let value: Field;
      if ((tag & 7) === 0) value = varint();
      else if ((tag & 7) === 1) value = view.getBigUint64((at += 8) - 8, true);
      else if ((tag & 7) === 5) value = BigInt(view.getUint32((at += 4) - 4, true));
      else if ((tag & 7) === 2) {
        const length = Number(varint());
        value = bytes.subarray(at, at += length);
        if (at > bytes.length) throw new Error("a field ends after its message");
      } else throw new Error(`wire type ${tag & 7}`);
      const values = this.#fields.get(tag >>> 3) ?? [];
      values.push(value);
      this.#fields.set(tag >>> 3, values);
    }
  }

  messages(field: number): Message[] {
    return (this.#fields.get(field) ?? []).map((value) => new Message(value as Uint8Array));
  }

  bytes(field: number): Uint8Array {
    return this.#fields.get(field)?.at(-1) as Uint8Array | undefined ?? new Uint8Array();
  }

  text(field: number): string {
    return new TextDecoder().decode(this.bytes(field));
  }

  hex(field: number): string {
    return Buffer.from(this.bytes(field)).toString("hex");
  }

  int(field: number): bigint | undefined {
    return this.#fields.get(field)?.at(-1) as bigint | undefined;
  }

  double(field: number): number | undefined {
    const bits = this.int(field);
    return bits === undefined ? undefined : toDouble(bits);
  }

  /** A packed list of what takes eight bytes. */
  words(field: number): bigint[] {
    const bytes = this.bytes(field);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true));
  }

  attributes(field: number): CollectedAttributes {
    return Object.fromEntries(
      this.messages(field).map((pair) => {
        const [value] = pair.messages(2);
        return [pair.text(1), value!.anyValue()];
      }),
    );
  }

  anyValue(): CollectedValue {
    const int = this.int(3);
    if (int !== undefined) return Number(BigInt.asIntN(64, int));
    const bool = this.int(2);
    if (bool !== undefined) return bool !== 0n;
    return this.double(4) ?? this.text(1);
  }
}

function toDouble(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

function toMetrics(request: Uint8Array): CollectedMetric[] {
  return new Message(request).messages(1).flatMap((ofResource) => {
    const resource = ofResource.messages(1)[0]!.attributes(1);
    return ofResource.messages(2).flatMap((ofScope) => {
      const scope = ofScope.messages(1)[0]!.text(1);
      return ofScope.messages(2).map((metric) => toMetric(resource, scope, metric));
    });
  });
}

function toMetric(resource: CollectedAttributes, scope: string, metric: Message): CollectedMetric {
  const [sum] = metric.messages(7);
  const [histogram] = metric.messages(9);
  const data = (sum ?? histogram)!;
  return {
    resource,
    scope,
    name: metric.text(1),
    unit: metric.text(3),
    type: sum ? "sum" : "histogram",
    temporality: (["unspecified", "delta", "cumulative"] as const)[Number(data.int(2) ?? 0n)]!,
    isMonotonic: sum !== undefined && sum.int(3) === 1n,
    points: data.messages(1).map(sum ? toSumPoint : toHistogramPoint),
  };
}

function toSumPoint(point: Message): CollectedPoint {
  const int = point.int(6);
  return {
    attributes: point.attributes(7),
    startNanos: point.int(2)!,
    timeNanos: point.int(3)!,
    value: int === undefined ? point.double(4)! : Number(BigInt.asIntN(64, int)),
  };
}

function toHistogramPoint(point: Message): CollectedPoint {
  return {
    attributes: point.attributes(9),
    startNanos: point.int(2)!,
    timeNanos: point.int(3)!,
    histogram: {
      count: Number(point.int(4)),
      sum: point.double(5)!,
      min: point.double(11)!,
      max: point.double(12)!,
      buckets: point.words(6).map(Number),
      bounds: point.words(7).map(toDouble),
    },
  };
}

function toSpans(request: Uint8Array): CollectedSpan[] {
  return new Message(request).messages(1).flatMap((ofResource) => {
    const resource = ofResource.messages(1)[0]!.attributes(1);
    return ofResource.messages(2).flatMap((ofScope) =>
      ofScope.messages(2).map((span) => toSpan(resource, span))
    );
  });
}

function toSpan(resource: CollectedAttributes, span: Message): CollectedSpan {
  const [status] = span.messages(15);
  return {
    resource,
    traceId: span.hex(1),
    spanId: span.hex(2),
    parentSpanId: span.hex(4),
    name: span.text(5),
    attributes: span.attributes(9),
    startNanos: span.int(7)!,
    endNanos: span.int(8)!,
    statusCode: Number(status?.int(3) ?? 0n),
    statusMessage: status?.text(2) ?? "",
  };
}
