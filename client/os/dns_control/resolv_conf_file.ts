/**
 * `/etc/resolv.conf`, rewritten and put back byte for byte.
 *
 *     original ──► backup, atomically ──► rewritten in place, between our first line and our last
 *     our first line is there, whoever wrote it: the original is the backup
 *     there are lines before our first or behind our last: somebody added them to the original
 *
 * The file is never replaced, only its content: it may be a bind mount, and so owner and mode stay.
 * Whenever the process is killed, either the first line or the original is there: new content is put
 * over an original by one write, and the end is cut off after that; where our lines are there already,
 * it is cut off before. The backup stays.
 * @module
 */

import { bytesEqual } from "@firezone/core/bytes";
import { ConfigError } from "@firezone/core/cli";
import type { IpAddress } from "@firezone/core/ip";
import { parseResolvConf, requireWritable, withNameservers } from "@firezone/core/os/linux";
import { Buffer } from "node:buffer";
import { dirname } from "node:path";

/** Begins the file while it is ours. */
export const FIRST_LINE = "# BEGIN Firezone DNS configuration";
/** Ends what is ours in the file. */
export const LAST_LINE = "# END Firezone DNS configuration";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

interface Content {
  readonly bytes: Uint8Array;
  readonly info: Deno.FileInfo;
}

/** See the head of this file. */
export class ResolvConfFile {
  /** Where the file is. */
  readonly path: string;
  /** Where the original is kept. */
  readonly backupPath: string;

  /** Touches nothing yet. */
  constructor(path = "/etc/resolv.conf", backupPath = `${path}.before-firezone`) {
    this.path = path;
    this.backupPath = backupPath;
  }

  /** Whether there is such a file, or a link to one. */
  exists(): boolean {
    try {
      return Deno.statSync(this.path).isFile;
    } catch {
      return false;
    }
  }

  /** Whether the file is a link to somewhere else. */
  linkTarget(): string | undefined {
    try {
      return Deno.readLinkSync(this.path);
    } catch {
      return undefined;
    }
  }

  /**
   * Asks the system whether it can be rewritten, and changes nothing.
   *
   * @throws ConfigError when it is no regular file, its original is lost, or it or the backup cannot
   *   be written
   */
  check(): void {
    this.#attempt("read", () => void this.#originalOf(this.#read().bytes));
    this.#requireWritable(() => {
      requireWritable(this.path);
      requireWritable(dirname(this.backupPath));
    });
  }

  /**
   * The same by trying: some rules are found no other way. The content stays as it is.
   *
   * @throws ConfigError as {@link check} does
   */
  tryWriting(): void {
    this.#attempt("read", () => void this.#read());
    this.#requireWritable(() => {
      Deno.openSync(this.path, { write: true }).close();
      Deno.removeSync(this.#makeTemporary());
    });
  }

  /**
   * Asks the system whether {@link restore} would do what there is to do, and changes nothing.
   *
   * @throws ConfigError when it would not
   */
  checkRestorable(): void {
    this.#attempt("restore", () => {
      if (!this.#isRegular() || !this.#originalOf(this.#read().bytes)) return;
      requireWritable(this.path);
    });
  }

  /** The servers in the original, or in what a link leads to; none when it cannot be read. */
  servers(): readonly IpAddress[] {
    try {
      const bytes = Deno.readFileSync(this.path);
      return parseResolvConf(decoder.decode(this.#originalOf(bytes) ?? bytes)).nameservers;
    } catch {
      return [];
    }
  }

  /**
   * Puts other servers into the file; everything else in it stays.
   *
   * @throws ConfigError when it is no regular file, or may not be written
   */
  rewrite(servers: readonly IpAddress[], searchDomain: string | undefined): void {
    this.#attempt("rewrite", () => {
      const current = this.#read();
      const restorable = this.#originalOf(current.bytes);
      const original = restorable ?? current.bytes;
      this.#backUp(original, current.info);
      const header = `${FIRST_LINE}\n` +
        `# Written by firezone-headless-client, which puts it back when it ends.\n` +
        `# The original is ${this.backupPath}`;
      const text = withNameservers(decoder.decode(original), header, servers, searchDomain);
      const bytes = encoder.encode(`${text}${LAST_LINE}\n`);
      if (bytesEqual(bytes, current.bytes)) return;
      this.#writeInPlace(current.info, (file) => {
        if (restorable) file.truncateSync(Math.min(bytes.length, current.bytes.length));
        writeAll(file, bytes);
        file.truncateSync(bytes.length);
      });
    });
  }

  /**
   * Puts the original back if the file is ours, otherwise does nothing.
   *
   * @returns whether there was something to put back
   * @throws ConfigError when the backup is gone, or the file may not be written
   */
  restore(): boolean {
    return this.#attempt("restore", () => {
      if (!this.#isRegular()) return false;
      const current = this.#read();
      const original = this.#originalOf(current.bytes);
      if (!original) return false;
      this.#backUp(original, current.info);
      this.#writeInPlace(current.info, (file) => {
        file.truncateSync(Math.min(original.length, current.bytes.length));
        writeAll(file, original);
      });
      return true;
    });
  }

  /** What the file would be without us; undefined when it is not ours. @throws ConfigError */
  #originalOf(bytes: Uint8Array): Uint8Array | undefined {
    const lines = toBinary(bytes).split("\n");
    const first = lines.indexOf(FIRST_LINE);
    if (first < 0) return this.#isRemainder(bytes) ? this.#readBackup() : undefined;
    const backup = this.#readBackup();
    const last = lines.indexOf(LAST_LINE, first);
    // Of the backup's length is what we were about to cut off when we were killed, and without the
    // last line what we cut off already.
    if (last < 0 || bytes.length === backup.length) return backup;
    return withAround(backup, lines.slice(0, first), lines.slice(last + 1));
  }

  /** Whether it is what is left of ours when we were killed while putting a short original back. */
  #isRemainder(bytes: Uint8Array): boolean {
    const isBeginning = bytes.length > 0 && FIRST_LINE.startsWith(toBinary(bytes));
    if (!isBeginning) return false;
    try {
      return Deno.statSync(this.backupPath).size === bytes.length;
    } catch {
      return false;
    }
  }

  #isRegular(): boolean {
    try {
      return Deno.lstatSync(this.path).isFile;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  #read(): Content {
    const target = this.linkTarget();
    if (target !== undefined) {
      const better = target.includes("systemd")
        ? "choose --dns-control systemd-resolved"
        : "choose --dns-control systemd-resolved or disabled";
      throw new ConfigError(
        `Cannot control DNS by ${this.path}: it is a link to ${target}, so another program ` +
          `manages it; ${better}, or make it a regular file`,
      );
    }
    if (!this.#isRegular()) {
      throw new ConfigError(
        `Cannot control DNS by ${this.path}: there is no such regular file; create it, ` +
          "or choose --dns-control systemd-resolved or disabled",
      );
    }
    using file = Deno.openSync(this.path, { read: true });
    return { info: file.statSync(), bytes: readAll(file) };
  }

  #requireWritable(attempt: () => void): void {
    try {
      attempt();
    } catch (error) {
      throw new ConfigError(
        `Cannot control DNS by ${this.path}: it and its folder have to be writable; make them so, ` +
          "or choose --dns-control systemd-resolved or disabled",
        { cause: error },
      );
    }
  }

  #readBackup(): Uint8Array {
    try {
      return Deno.readFileSync(this.backupPath);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new ConfigError(
        `Cannot restore ${this.path}: Firezone had rewritten it, and the original at ` +
          `${this.backupPath} is gone; write the file anew, for example by restarting the network`,
      );
    }
  }

  /** A crash leaves the former backup or the new one, never half of one. */
  #backUp(bytes: Uint8Array, info: Deno.FileInfo): void {
    if (this.#isBackedUp(bytes)) return;
    const temporary = this.#makeTemporary();
    try {
      {
        using file = Deno.openSync(temporary, { write: true });
        writeAll(file, bytes);
        file.syncSync();
      }
      if (info.mode !== null) Deno.chmodSync(temporary, info.mode & 0o7777);
      if (Deno.uid() === 0) Deno.chownSync(temporary, info.uid, info.gid);
      Deno.renameSync(temporary, this.backupPath);
    } catch (error) {
      try {
        Deno.removeSync(temporary);
      } catch {
        // It was renamed already.
      }
      throw error;
    }
  }

  #isBackedUp(bytes: Uint8Array): boolean {
    try {
      return bytesEqual(Deno.readFileSync(this.backupPath), bytes);
    } catch {
      return false;
    }
  }

  #makeTemporary(): string {
    return Deno.makeTempFileSync({ dir: dirname(this.backupPath), prefix: ".resolv.conf." });
  }

  #writeInPlace(seen: Deno.FileInfo, write: (file: Deno.FsFile) => void): void {
    using file = Deno.openSync(this.path, { write: true });
    const now = file.statSync();
    if (now.ino !== seen.ino || now.dev !== seen.dev) {
      throw new ConfigError(`Cannot write ${this.path}: another program has just replaced it`);
    }
    write(file);
    file.syncSync();
  }

  #attempt<T>(action: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      throw new ConfigError(`Cannot ${action} ${this.path}`, { cause: error });
    }
  }
}

/** The original with lines that were added before and behind, unless it has them already. */
function withAround(
  original: Uint8Array,
  before: readonly string[],
  behind: readonly string[],
): Uint8Array {
  const text = toBinary(original);
  const head = before.map((line) => `${line}\n`).join("");
  const tail = behind.join("\n");
  if (text.startsWith(head) && text.endsWith(tail)) return original;
  const isEnded = text === "" || text.endsWith("\n");
  return fromBinary(`${head}${text}${isEnded ? "" : "\n"}${tail}`);
}

/** One character per byte, so that nothing is lost whatever the encoding. */
function toBinary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

function fromBinary(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

function readAll(file: Deno.FsFile): Uint8Array {
  const bytes = new Uint8Array(file.statSync().size);
  let length = 0;
  while (length < bytes.length) {
    const n = file.readSync(bytes.subarray(length));
    if (n === null) break;
    length += n;
  }
  return bytes.subarray(0, length);
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}
