/**
 * Frames of HTTP/2: the numbers of the protocol, writing frames, and cutting them out of bytes.
 *
 *     0            3      4       5           9
 *     | length: 24 | type | flags | stream: 31 | payload |        big-endian
 *
 * Spec: RFC 9113 §4.1, §6.
 * @module
 */

import { readU32, writeU16, writeU32 } from "../bytes/mod.ts";

/** Frame types (§6). */
export const FrameType = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

/** Flags; which of them a frame may have depends on its type (§6). */
export const Flag = {
  ACK: 0x1,
  END_STREAM: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

/** Settings (§6.5.2). */
export const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

/** Error codes that we send or tell apart (§7). */
export const ErrorCode = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  FLOW_CONTROL_ERROR: 3,
  REFUSED_STREAM: 7,
  CANCEL: 8,
} as const;

/** Longest payload until a setting says otherwise, and the shortest that a setting may say. */
export const DEFAULT_FRAME_LENGTH = 16_384;
/** Longest payload that a setting may allow. */
export const LARGEST_FRAME_LENGTH = 2 ** 24 - 1;
/** Bytes that may be sent before the other side has to make room. */
export const DEFAULT_WINDOW = 65_535;
/** No window may be larger. */
export const LARGEST_WINDOW = 2 ** 31 - 1;

const HEADER_LENGTH = 9;

/** A frame as it came. */
export interface Frame {
  /** One of {@link FrameType}, or unknown. */
  readonly type: number;
  /** See {@link Flag}. */
  readonly flags: number;
  /** 0 for the connection itself. */
  readonly stream: number;
  /** Lent until the next bytes are added. */
  readonly payload: Uint8Array;
}

/** Cuts frames out of bytes that come in any pieces; keeps no more than one frame and a piece. */
export class FrameReader {
  #bytes: Uint8Array = new Uint8Array();
  #at = 0;

  /** Adds bytes. @param bytes borrowed for this call */
  add(bytes: Uint8Array): void {
    const rest = this.#bytes.length - this.#at;
    const joined = new Uint8Array(rest + bytes.length);
    joined.set(this.#bytes.subarray(this.#at));
    joined.set(bytes, rest);
    this.#bytes = joined;
    this.#at = 0;
  }

  /** The next frame if it is whole; `too-long` when it is longer than we allow, for ever. */
  next(): Frame | "too-long" | undefined {
    const [bytes, at] = [this.#bytes, this.#at];
    if (bytes.length - at < HEADER_LENGTH) return undefined;
    const length = readU32(bytes, at) >>> 8;
    if (length > DEFAULT_FRAME_LENGTH) return "too-long";
    const end = at + HEADER_LENGTH + length;
    if (end > bytes.length) return undefined;
    this.#at = end;
    return {
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      stream: readU32(bytes, at + 5) & 0x7fff_ffff,
      payload: bytes.subarray(at + HEADER_LENGTH, end),
    };
  }
}

/** The bytes of a frame. @param payload at most {@link LARGEST_FRAME_LENGTH} bytes */
export function writeFrame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array,
): Uint8Array {
  const frame = new Uint8Array(HEADER_LENGTH + payload.length);
  writeU32(frame, 0, payload.length << 8 | type);
  frame[4] = flags;
  writeU32(frame, 5, stream);
  frame.set(payload, HEADER_LENGTH);
  return frame;
}

/** A frame whose payload is a number of 32 bits: WINDOW_UPDATE, RST_STREAM. */
export function writeNumberFrame(type: number, stream: number, value: number): Uint8Array {
  const payload = new Uint8Array(4);
  writeU32(payload, 0, value);
  return writeFrame(type, 0, stream, payload);
}

/** A SETTINGS frame. */
export function writeSettings(settings: readonly (readonly [number, number])[]): Uint8Array {
  const payload = new Uint8Array(6 * settings.length);
  for (const [i, [id, value]] of settings.entries()) {
    writeU16(payload, 6 * i, id);
    writeU32(payload, 6 * i + 2, value);
  }
  return writeFrame(FrameType.SETTINGS, 0, 0, payload);
}

/**
 * A payload of DATA or HEADERS without its padding and its priority (§6.1, §6.2); undefined when it
 * is too short for them.
 */
export function contentOf({ type, flags, payload }: Frame): Uint8Array | undefined {
  const isPadded = (flags & Flag.PADDED) !== 0;
  const hasPriority = type === FrameType.HEADERS && (flags & Flag.PRIORITY) !== 0;
  const start = (isPadded ? 1 : 0) + (hasPriority ? 5 : 0);
  const end = payload.length - (isPadded ? payload[0] ?? 0 : 0);
  return start <= end ? payload.subarray(start, end) : undefined;
}
