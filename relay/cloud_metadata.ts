/**
 * What a virtual machine can ask its cloud about itself: its public addresses, its name and place.
 *
 *     GCE  GET /computeMetadata/v1/instance/…         Metadata-Flavor: Google
 *     EC2  PUT /latest/api/token, then                X-aws-ec2-metadata-token-ttl-seconds
 *          GET /latest/meta-data/…                    X-aws-ec2-metadata-token
 *
 * Asked once, at the start. The answers come over plain HTTP from whoever sits at the address, so
 * they are short, of a known form, or refused; and they come in time, or the start fails.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import { type IpAddress, parseIpAddress } from "@firezone/core/ip";
import type { Attributes } from "@firezone/core/telemetry";

/** Clouds that tell addresses. */
export const ADDRESS_METHODS = ["gce_metadata", "aws_ec2_metadata"] as const;
/** How a relay finds out its public addresses. */
export type AddressMethod = typeof ADDRESS_METHODS[number];

/** Clouds that tell what describes a process. */
export const RESOURCE_METHODS = ["gce_metadata"] as const;
/** How a relay finds out what describes it. */
export type ResourceMethod = typeof RESOURCE_METHODS[number];

/** Public addresses, as far as they are known. */
export interface PublicAddresses {
  /** Over IPv4. */
  readonly v4: IpAddress | undefined;
  /** Over IPv6. */
  readonly v6: IpAddress | undefined;
}

/** Where clouds answer. */
export interface MetadataOptions {
  /** Replaces the cloud's own address, in tests; without a slash at its end. */
  readonly baseUrl?: string | undefined;
  /** For all questions together. */
  readonly timeoutMs?: number | undefined;
}

const DEFAULT_TIMEOUT_MS = 5000;
const MAX_ANSWER_LENGTH = 4096;
const GCE_URL = "http://metadata.google.internal";
const EC2_URL = "http://169.254.169.254";
/** The token is used at once. */
const EC2_TOKEN_SECONDS = 60;

/**
 * Asks for the addresses that are not known yet; nothing is asked if both are.
 *
 * @throws ConfigError if the cloud does not answer, answers nonsense, or knows no address at all
 */
export async function discoverAddresses(
  method: AddressMethod,
  known: PublicAddresses,
  options: MetadataOptions = {},
): Promise<PublicAddresses> {
  if (known.v4 && known.v6) return known;
  const server = method === "gce_metadata" ? new Gce(options) : new Ec2(options);
  const ask = async (family: 4 | 6) => toAddress(family, await server.publicAddress(family));
  const found = { v4: known.v4 ?? await ask(4), v6: known.v6 ?? await ask(6) };
  if (found.v4 || found.v6) return found;
  throw new ConfigError(
    `Cannot find a public address: ${method} knows none; ` +
      "give --public-ip4-addr or --public-ip6-addr",
  );
}

/** Asks for what describes this machine to a collector. @throws ConfigError as above */
export async function discoverResource(
  _method: ResourceMethod,
  options: MetadataOptions = {},
): Promise<Attributes> {
  const server = new Gce(options);
  const word = async (path: string, name: string) => {
    const text = await server.get(path);
    // A zone comes with its project: projects/1234/zones/us-east1-b.
    const last = text?.slice(text.lastIndexOf("/") + 1) ?? "";
    if (/^[A-Za-z0-9._-]{1,255}$/.test(last)) return last;
    throw unusable("gce_metadata", name, text ?? "");
  };
  return {
    "service.instance.id": await word("id", "the instance's id"),
    "gcp.gce.instance.name": await word("name", "the instance's name"),
    "cloud.region": await word("zone", "the instance's zone"),
  };
}

/** Google Compute Engine. */
class Gce {
  readonly #http: MetadataHttp;

  constructor(options: MetadataOptions) {
    this.#http = new MetadataHttp("gce_metadata", GCE_URL, options);
  }

  get(path: string): Promise<string | undefined> {
    return this.#http.ask("GET", `/computeMetadata/v1/instance/${path}`, {
      "Metadata-Flavor": "Google",
    });
  }

  publicAddress(family: 4 | 6): Promise<string | undefined> {
    return this.get(
      family === 4
        ? "network-interfaces/0/access-configs/0/external-ip"
        : "network-interfaces/0/ipv6s",
    );
  }
}

/** Amazon EC2, its metadata service version 2. */
class Ec2 {
  readonly #http: MetadataHttp;
  #token: string | undefined;

  constructor(options: MetadataOptions) {
    this.#http = new MetadataHttp("aws_ec2_metadata", EC2_URL, options);
  }

  async publicAddress(family: 4 | 6): Promise<string | undefined> {
    this.#token ??= await this.#fetchToken();
    const name = family === 4 ? "public-ipv4" : "ipv6";
    return await this.#http.ask("GET", `/latest/meta-data/${name}`, {
      "X-aws-ec2-metadata-token": this.#token,
    });
  }

  async #fetchToken(): Promise<string> {
    const token = await this.#http.ask("PUT", "/latest/api/token", {
      "X-aws-ec2-metadata-token-ttl-seconds": `${EC2_TOKEN_SECONDS}`,
    });
    if (token !== undefined && /^[\x21-\x7e]+$/.test(token)) return token;
    throw unusable("aws_ec2_metadata", "a token", token ?? "");
  }
}

/** Short questions and answers, with one time limit for all of them. */
class MetadataHttp {
  readonly #method: AddressMethod;
  readonly #baseUrl: string;
  readonly #timeoutMs: number;
  readonly #end: number;

  constructor(method: AddressMethod, url: string, options: MetadataOptions) {
    this.#method = method;
    this.#baseUrl = options.baseUrl ?? url;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#end = performance.now() + this.#timeoutMs;
  }

  /** The answer without white space around it; `undefined` for 404. */
  async ask(
    verb: string,
    path: string,
    headers: Record<string, string>,
  ): Promise<string | undefined> {
    const url = this.#baseUrl + path;
    const aborter = new AbortController();
    const timer = setTimeout(
      () => aborter.abort(new Error(`no answer within ${this.#timeoutMs / 1000} s`)),
      Math.max(0, this.#end - performance.now()),
    );
    try {
      const { signal } = aborter;
      // Whoever redirects is not the metadata server.
      const response = await fetch(url, { method: verb, headers, signal, redirect: "manual" });
      const text = response.ok ? await readShort(response) : undefined;
      await response.body?.cancel();
      if (response.ok) return text!.trim();
      if (response.status === 404) return undefined;
      throw new Error(`it answered with status ${response.status}`);
    } catch (error) {
      const reason = firstLine(signalReason(aborter.signal) ?? error);
      throw new ConfigError(`Cannot ask ${this.#method} for ${url}: ${reason}`);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function readShort(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > MAX_ANSWER_LENGTH) throw new Error("its answer is too long");
    text += decoder.decode(chunk, { stream: true });
  }
  return text;
}

/** The first line is the address; the list of IPv6 addresses may have more. */
function toAddress(family: 4 | 6, text: string | undefined): IpAddress | undefined {
  const line = text?.split("\n")[0]?.trim() ?? "";
  // An interface without an address is told of by an empty answer, or by 404.
  if (line === "") return undefined;
  const address = parseIpAddress(line.replace(/\/\d+$/, ""));
  if (address?.family === family) return address;
  throw unusable("the metadata server", `a public IPv${family} address`, line);
}

function unusable(who: string, what: string, answer: string): ConfigError {
  const shown = answer.length > 40 ? `${answer.slice(0, 40)}…` : answer;
  return new ConfigError(
    `Cannot use what ${who} answered for ${what}: ${JSON.stringify(shown)}`,
  );
}

function signalReason(signal: AbortSignal): unknown {
  return signal.aborted ? signal.reason : undefined;
}

/** What the system said, if it did, and where that began. */
function firstLine(error: unknown): string {
  const cause = error instanceof Error ? error.cause ?? error : error;
  const text = cause instanceof Error ? cause.message : String(cause);
  const [line] = text.split("\n");
  // `fetch` names the URL and itself before it comes to the point.
  return line!.replace(
    /^error sending request for url \([^)]*\): (client error \(Connect\): )?/,
    "",
  );
}
