/**
 * A message bus of a test's own, with the real daemon, and services on it that say something.
 * @module
 */

import { DBUS, type DbusWriter, writeMessage } from "../../os/linux/mod.ts";

const CONFIG = (socket: string) =>
  `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow send_type="signal"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`;

/** A running `dbus-daemon`. */
export class TestBus {
  /** Path of its socket. */
  readonly socket: string;
  readonly #directory: string;
  readonly #process: Deno.ChildProcess;

  private constructor(directory: string, socket: string, process: Deno.ChildProcess) {
    this.#directory = directory;
    this.socket = socket;
    this.#process = process;
  }

  /** Starts a daemon and waits until it listens. */
  static async start(): Promise<TestBus> {
    const directory = await Deno.makeTempDir();
    const socket = `${directory}/bus`;
    await Deno.writeTextFile(`${directory}/bus.conf`, CONFIG(socket));
    const process = new Deno.Command("dbus-daemon", {
      args: [`--config-file=${directory}/bus.conf`, "--nofork", "--nosyslog", "--print-address"],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = process.stdout.getReader();
    await reader.read(); // it prints its address once it listens
    await reader.cancel();
    return new TestBus(directory, socket, process);
  }

  /** A service with this name, which lives until it is closed. */
  async service(name: string, path: string): Promise<TestService> {
    const connection = await Deno.connect({ transport: "unix", path: this.socket });
    const service = new TestService(connection, name, path);
    await service.begin();
    return service;
  }

  /** Ends the daemon. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.status;
    await Deno.remove(this.#directory, { recursive: true });
  }
}

/** Somebody on the bus who owns a name. */
export class TestService {
  #serial = 0;

  constructor(
    readonly connection: Deno.Conn,
    readonly name: string,
    readonly path: string,
  ) {}

  /** Logs in and takes the name. */
  async begin(): Promise<void> {
    const uid = [...String(Deno.uid())].map((c) => c.charCodeAt(0).toString(16)).join("");
    await this.#write(new TextEncoder().encode(`\0AUTH EXTERNAL ${uid}\r\nBEGIN\r\n`));
    await this.#call("Hello", "", () => {});
    await this.#call("RequestName", "su", (writer) => writer.text(this.name).uint32(0));
    // The answers to both and the signals that go with them; the name is ours by then.
    const buffer = new Uint8Array(4096);
    for (let text = ""; !text.includes("NameAcquired\0") || !text.includes(`${this.name}\0`);) {
      const length = await this.connection.read(buffer);
      if (length === null) throw new Error("the bus closed the connection");
      text += new TextDecoder("latin1").decode(buffer.subarray(0, length));
    }
  }

  /** Says that a property has another value. */
  async change(property: string): Promise<void> {
    await this.#write(writeMessage(++this.#serial, {
      type: DBUS.signal,
      path: this.path,
      interface: "org.freedesktop.DBus.Properties",
      member: "PropertiesChanged",
      signature: "sa{sv}as",
      body: (writer) =>
        writer.text(this.name).array(8, (dict) => {
          dict.align(8).text(property).signature("o").text("/somewhere/2");
        }).array(4, () => {}),
    }));
  }

  /** Leaves the bus. */
  [Symbol.dispose](): void {
    this.connection.close();
  }

  async #call(member: string, signature: string, body: (w: DbusWriter) => void): Promise<void> {
    const bus = "org.freedesktop.DBus";
    await this.#write(writeMessage(++this.#serial, {
      type: DBUS.methodCall,
      path: "/org/freedesktop/DBus",
      interface: bus,
      destination: bus,
      member,
      signature,
      body,
    }));
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.connection.write(bytes.subarray(at));
  }
}
