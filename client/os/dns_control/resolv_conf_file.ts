/**
 * `/etc/resolv.conf`, rewritten and put back byte for byte.
 *
 *     original ──► backup, atomically ──► rewritten in place, below our first line
 *     our first line is there, whoever wrote it: the original is the backup
 *
 * The file is never replaced, only its content: it may be a bind mount, and so owner and mode stay.
 * Whenever the process is killed, either the first line or the original is there: new content is put
 * over the old by one write, and the end is cut off after that (or, when going back, before that).
 * The backup stays.
 * @module
 */

import { bytesEqual } from "@firezone/core/bytes";
import { ConfigError } from "@firezone/core/cli";
import type { IpAddress } from "@firezone/core/ip";
import { parseResolvConf, withNameservers } from "@firezone/core/os/linux";
import { dirname } from "node:path";

/** Begins the file while it is ours. */
export const FIRST_LINE = "# BEGIN Firezone DNS configuration";

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

  /** Whether it could be rewritten. @throws ConfigError when it is no regular file */
  check(): void {
    this.#attempt("read", () => void this.#read());
  }

  /** The servers in the original, or in what a link leads to; none when it cannot be read. */
  servers(): readonly IpAddress[] {
    let bytes: Uint8Array;
    try {
      bytes = Deno.readFileSync(this.path);
      if (this.#isOurs(bytes)) bytes = Deno.readFileSync(this.backupPath);
    } catch {
      return [];
    }
    return parseResolvConf(decoder.decode(bytes)).nameservers;
  }

  /**
   * Puts other servers into the file; everything else in it stays.
   *
   * @throws ConfigError when it is no regular file, or may not be written
   */
  rewrite(servers: readonly IpAddress[], searchDomain: string | undefined): void {
    this.#attempt("rewrite", () => {
      const current = this.#read();
      let original = current.bytes;
      if (this.#isOurs(current.bytes)) original = this.#readBackup();
      else this.#writeBackup(current);
      const header = `${FIRST_LINE}\n` +
        `# Written by firezone-headless-client, which puts it back when it ends.\n` +
        `# The original is ${this.backupPath}`;
      const text = withNameservers(decoder.decode(original), header, servers, searchDomain);
      const bytes = encoder.encode(text);
      if (bytesEqual(bytes, current.bytes)) return;
      this.#writeInPlace(current.info, (file) => {
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
      if (!this.#isOurs(current.bytes)) return false;
      const original = this.#readBackup();
      this.#writeInPlace(current.info, (file) => {
        file.truncateSync(Math.min(original.length, current.bytes.length));
        writeAll(file, original);
      });
      return true;
    });
  }

  /** Ours, or what is left of it when we were killed while putting a shorter original back. */
  #isOurs(bytes: Uint8Array): boolean {
    const start = decoder.decode(bytes.subarray(0, FIRST_LINE.length));
    if (start === FIRST_LINE) return true;
    if (bytes.length === 0 || !FIRST_LINE.startsWith(start)) return false;
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
  #writeBackup({ bytes, info }: Content): void {
    const temporary = Deno.makeTempFileSync({
      dir: dirname(this.backupPath),
      prefix: ".resolv.conf.",
    });
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
